"""Kill a small training run with SIGKILL at random moments, resume it each time, and compare with one never killed.

python scripts/kill_run.py --kills 20

A run comes to its end after a few kills; then another one begins, until there were that many.
"""

import argparse
import contextlib
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SMALL = [
    "trainer=cpu",
    "data_dir=world",
    "data.dataset.identities=20",
    "data.dataset.images_per_camera=4",
    "data.height=64",
    "data.width=32",
    "data.identities_per_batch=4",
    "data.images_per_identity=4",
    "trainer.max_epochs=12",
    "trainer.log_every_n_steps=1",
    "validation.start=1",
    "trainer.check_val_every_n_epoch=2",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        began = time.monotonic()
        train(place, *SMALL, "run_dir=whole").wait()
        whole = time.monotonic() - began
        kills = runs = 0
        while kills < arguments.kills:
            runs += 1
            kills += run_to_its_end(place, f"run_{runs}", lambda: moments.uniform(0.3, 0.6) * whole)
            compare(Path(place, "whole"), Path(place, f"run_{runs}"))
            print(f"{runs} runs, killed {kills} times, and the same: metrics.csv, results, parameters", flush=True)


def run_to_its_end(place: str, folder: str, patience: Callable[[], float]) -> int:
    """Kill a run after a while, resume it, and so on until it ends by itself; how often it was killed."""
    for kills in itertools.count():
        begun = Path(place, folder, "config.yaml").exists()
        run = train(place, *([f"resume={folder}"] if begun else [*SMALL, f"run_dir={folder}"]))
        with contextlib.suppress(subprocess.TimeoutExpired):
            if run.wait(timeout=patience()):
                sys.exit(f"{folder} failed")
            return kills
        run.kill()
        run.wait()
    raise AssertionError("count() does not end")


def train(place: str, *arguments: str) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "mpanet_pl.train", *arguments]
    return subprocess.Popen(line, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def compare(whole: Path, run: Path) -> None:
    import torch

    assert (whole / "metrics.csv").read_bytes() == (run / "metrics.csv").read_bytes(), "metrics.csv differs"
    scores = [json.loads((folder / "results.json").read_text())["scores"] for folder in (whole, run)]
    assert scores[0] == scores[1], "the scores differ"
    states = [torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for folder in (whole, run)]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


if __name__ == "__main__":
    main()
