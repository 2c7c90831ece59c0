"""Kill a small training run with SIGKILL at random moments, resume it each time, and compare with one never killed.

python scripts/kill_run.py --kills 20
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
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
    "validation.every=2",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as place:
        began = time.monotonic()
        train(place, *SMALL, "folder=whole").wait()
        whole = time.monotonic() - began
        run = train(place, *SMALL, "folder=run")
        kills = 0
        while kills < arguments.kills:
            time.sleep(moments.uniform(0.3, 0.6) * whole)
            if run.poll() is None:
                run.kill()
                run.wait()
                kills += 1
            else:
                print(f"the run came to its end after {kills} kills")
                break
            run = train(place, *(["resume=run"] if Path(place, "run/config.yaml").exists() else [*SMALL, "folder=run"]))
        if run.wait():
            sys.exit("the resumed run failed")
        compare(Path(place, "whole"), Path(place, "run"))
        print(f"killed {kills} times, and the same: metrics.csv, results, parameters")


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
