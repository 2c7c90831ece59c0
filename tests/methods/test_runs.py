"""Each guest as a run on a small drawn world, interrupted and resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from commands import SMALL_WORLD, compose, scores_of

from mpanet_pl import MPANetModule
from mpanet_pl.train import train

pytestmark = pytest.mark.slow
GUESTS = {"agw": "AGW", "caj": "CAJ", "deen": "DEEN", "saai": "SAAI", "m3reid": "M3ReID"}
BATCHES = 2
TINY = [
    "model.network.trunk=resnet18_thin",
    "model.optimizer.lr=1e-3",  # so few steps at the recipe's rate leave running statistics far behind the weights
    "trainer.max_epochs=2",
    "trainer.limit_val_batches=0",
    f"trainer.limit_train_batches={BATCHES}",
    "protocol.trials=1",
    "pictures=false",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


@pytest.mark.parametrize("method", GUESTS)
def test_a_resumed_run_is_the_whole_run(
    method: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(name: str) -> list[str]:
        return [f"method={method}", *SMALL_WORLD, *TINY, f"data_dir={world}", f"run_dir={tmp_path / name}"]

    train(compose("train", small("whole")))
    with monkeypatch.context() as patched:
        original = MPANetModule.training_step

        def interrupted(self: MPANetModule, *arguments: Any) -> Any:
            if self.trainer.global_step == BATCHES + 1:  # in the second epoch
                raise KeyboardInterrupt
            return original(self, *arguments)

        patched.setattr(MPANetModule, "training_step", interrupted)
        with pytest.raises(SystemExit, match="130"):
            train(compose("train", small("run")))
    train(compose("train", [f"resume={tmp_path / 'run'}"]))
    whole, resumed = (
        torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True) for name in ("whole", "run")
    )
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        torch.testing.assert_close(resumed[key], whole[key], rtol=0, atol=0)
    assert scores_of(tmp_path / "run") == scores_of(tmp_path / "whole")
    module = MPANetModule.load_from_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert type(module.network).__name__ == GUESTS[method]
