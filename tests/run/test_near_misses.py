"""What is refused is refused before anything is drawn, and says the way out."""

from pathlib import Path

import pytest
import torch
from checkpoints import save_checkpoint
from commands import SMALL_WORLD, compose, type_in

from mpanet_pl.evaluate import evaluate
from mpanet_pl.run.settings import plain
from mpanet_pl.train import train


def test_a_taken_folder_is_refused_before_the_world_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run, stray, file = tmp_path / "run", tmp_path / "stray", tmp_path / "file"
    run.mkdir()
    (run / "config.yaml").write_text("resume: null\n")
    (stray / "checkpoints").mkdir(parents=True)
    (stray / "checkpoints/last.ckpt").write_bytes(b"x")
    file.write_text("x")
    for folder, said in (
        (run, f"{run} already holds a run: choose another run_dir. (python -m mpanet_pl.train resume="),
        (stray, f"{stray} holds a checkpoint of some other run"),
        (file / "below", f"{file / 'below'} cannot be written: {file} is no folder"),
    ):
        assert type_in("train", train, [*SMALL_WORLD, "data_dir=world", f"run_dir={folder}"], monkeypatch) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "world").exists()


def test_a_network_trained_elsewhere_is_asked_for_a_trial_to_test_not_one_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ckpt = save_checkpoint(tmp_path / "last.ckpt", trunk="resnet18_thin")
    content = torch.load(ckpt, weights_only=True) | {"config": plain(compose("train", SMALL_WORLD))}
    torch.save(content, ckpt)
    assert type_in("evaluate", evaluate, [f"ckpt={ckpt}", "dataset=regdb", f"data_dir={tmp_path}"], monkeypatch) == 2
    told = capsys.readouterr().err
    assert f"{ckpt} was trained on synthetic; say whose test people of RegDB: add trial=1 … 10." in told
