"""What is refused is refused before anything is drawn, cached, trained or written."""

from pathlib import Path

import pytest
import torch
from checkpoints import save_checkpoint
from commands import SMALL_WORLD, compose, type_in

from mpanet_pl.evaluate import evaluate
from mpanet_pl.run import loggers
from mpanet_pl.run.settings import plain
from mpanet_pl.train import train

COMMANDS = {"train": train, "evaluate": evaluate}
REFUSED = {
    "train validation.monitor=[all/single/r2]": "got all/single/r2",
    "train protocol.permutations=nowhere.mat": "nowhere.mat",
    "train protocol._target_=mpanet_pl.evaluation.RegDBProtocol": "validation.monitor takes visible_to_thermal",
    "train data.identities_per_batch=50": "set identities_per_batch to at most 6",
    "train model.network.pretrained=nowhere.pt": "nowhere.pt",
    "train trainer.num_nodes=2": "torchrun or srun",
    "train +callbacks.mine._target_=some_lab.Mine": "some_lab",
    "train logger=mlflow": "MLFlowLogger needs mlflow: pip install 'mpanet_pl[mlflow]'.",
    "evaluate ckpt=last.ckpt k1=3": "k1 needs rerank=k_reciprocal",
    "evaluate ckpt=last.ckpt protocol.permutations=nowhere.mat": "nowhere.mat",
    "evaluate ckpt=nowhere.ckpt": "nowhere.ckpt cannot be read: No such file",
}


@pytest.mark.parametrize("line", REFUSED)
def test_it_is_refused_before_anything_is_made(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPANET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    command, *typed = line.split()
    if command == "train":
        keys = {word.partition("=")[0] for word in typed}
        typed = [*(word for word in SMALL_WORLD if word.partition("=")[0] not in keys), *typed]
    else:
        ckpt = save_checkpoint(tmp_path / "last.ckpt", trunk="resnet18_thin")
        torch.save(torch.load(ckpt, weights_only=True) | {"config": plain(compose("train", SMALL_WORLD))}, ckpt)
    before = sorted(tmp_path.rglob("*"))
    assert type_in(command, COMMANDS[command], typed, monkeypatch) == 2
    assert REFUSED[line] in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
