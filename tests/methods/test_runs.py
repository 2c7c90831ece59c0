"""Each guest as a run on a small drawn world: resumed, and shared by two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import SMALL_WORLD, compose, scores_of, type_in

from mpanet_pl import MPANetModule
from mpanet_pl.train import train

pytestmark = pytest.mark.slow
GUESTS = ("agw", "caj", "deen")
TINY = ["model.network.trunk=resnet18_thin", "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=2"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


def small(method: str, world: Path, folder: Path, *more: str) -> list[str]:
    return [f"method={method}", *SMALL_WORLD, *TINY, f"data_dir={world}", f"run_dir={folder}", *more]


@pytest.mark.parametrize("method", GUESTS)
def test_a_resumed_run_is_the_whole_run(
    method: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(compose("train", small(method, world, tmp_path / "whole")))
    train(compose("train", small(method, world, tmp_path / "run", "trainer.max_epochs=1")))
    assert type_in("train", train, [f"resume={tmp_path / 'run'}", "trainer.max_epochs=2"], monkeypatch) == 0
    whole, resumed = (
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("whole", "run")
    )
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        torch.testing.assert_close(resumed[key], whole[key], rtol=0, atol=0)
    assert scores_of(tmp_path / "run")["last"] == scores_of(tmp_path / "whole")["last"]
    module = MPANetModule.load_from_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert type(module.network).__name__ == method.upper()


@pytest.mark.parametrize("method", GUESTS)
def test_two_processes_share_a_run(method: str, world: Path, tmp_path: Path) -> None:
    """Both embed their half; losses are of the rows of both."""
    typed = small(method, world, tmp_path / "run", "trainer=ddp_cpu", "trainer.max_epochs=1", "data.workers=0")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "mpanet_pl.train", *typed]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run/results.json").read_text())
    assert 0 <= record["scores"]["last"]["all/single"]["r1"]["mean"] <= 100
