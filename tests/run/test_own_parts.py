"""A whole project of one's own through the commands: trained, continued, tested, swept; handed over and trusted."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import SMALL, type_in
from lab import MY_LAB, stand_in_a_lab

from mpanet_pl.embed import embed
from mpanet_pl.evaluate import evaluate
from mpanet_pl.gallery.store import Gallery
from mpanet_pl.train import train

PROJECT = (
    MY_LAB
    + """
import pytorch_lightning as pl

from mpanet_pl.data import Folder
from mpanet_pl.evaluation import FolderProtocol


class Mine(Folder):
    pass


class MyProtocol(FolderProtocol):
    pass


class Notes(pl.Callback):
    def __init__(self, file):
        self.file = file

    def on_train_epoch_end(self, trainer, module):
        with open(self.file, "a") as file:
            file.write(f"{trainer.current_epoch}\\n")
"""
)


def own(folder: Path, root: Path) -> list[str]:
    settings = [setting for setting in SMALL if "network" not in setting]
    return [
        *settings,
        "dataset=folder",
        f"data_dir={root}",
        "data.cache=false",
        "data.workers=0",
        "trainer.max_epochs=1",
        "validation.start=1",
        "data.dataset._target_=my_lab.Mine",
        "protocol._target_=my_lab.MyProtocol",
        "+model.network._target_=my_lab.Net",
        "+model.criterion.extra.spread={_target_: my_lab.Spread, weight: 0.3}",
        "+callbacks.notes={_target_: my_lab.Notes, file: notes.txt}",
        f"run_dir={folder}",
    ]


@pytest.mark.slow
def test_own_parts_go_all_the_way(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in_a_lab(tmp_path, monkeypatch, PROJECT)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run, last = tmp_path / "run", "checkpoints/last.ckpt"
    assert type_in("train", train, own(run, folder), monkeypatch) == 0, capsys.readouterr().err
    assert "train/spread" in (run / "metrics.csv").read_text()
    assert type_in("train", train, [f"resume={run}", "trainer.max_epochs=2"], monkeypatch) == 0, (
        "typed once, known since"
    )
    assert (tmp_path / "notes.txt").read_text().split() == ["0", "1"]
    mine = [f"ckpt={run / last}", "trainer=cpu", f"run_dir={tmp_path / 'tested'}"]
    assert type_in("evaluate", evaluate, mine, monkeypatch) == 0, capsys.readouterr().err
    small = [f"ckpt={run / last}", f"images={folder}", f"out={tmp_path / 'people'}", "compact=4", "trainer=cpu"]
    assert type_in("embed", embed, small, monkeypatch) == 0, capsys.readouterr().err
    assert Gallery(tmp_path / "people").dimension == 4

    handed = tmp_path / "handed over"
    shutil.copytree(run, handed, ignore=shutil.ignore_patterns(".*"))
    theirs = [f"ckpt={handed / last}", "trainer=cpu", f"run_dir={tmp_path / 'theirs'}"]
    capsys.readouterr()
    for name, task, arguments in (
        ("evaluate", evaluate, theirs),
        ("train", train, [f"resume={handed}", "trainer.max_epochs=3"]),
    ):
        assert type_in(name, task, arguments, monkeypatch) == 2
        refusal = capsys.readouterr().err
        assert "would call my_lab." in refusal
        assert "trust=my_lab" in refusal
    assert not (tmp_path / "theirs").exists()
    assert type_in("evaluate", evaluate, [*theirs, "trust=my_lab"], monkeypatch) == 0, capsys.readouterr().err
    scores = [json.loads((tmp_path / name / "results.json").read_text())["scores"] for name in ("tested", "theirs")]
    assert scores[0] == scores[1]
    arguments = [f"resume={handed}", "trainer.max_epochs=3", "trust=[my_lab]"]
    assert type_in("train", train, arguments, monkeypatch) == 0, capsys.readouterr().err
    assert type_in("train", train, [f"resume={handed}", "trainer.max_epochs=4"], monkeypatch) == 0, (
        "his own from then on"
    )


@pytest.mark.slow
def test_own_parts_train_on_two_ranks(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole train of an own dataset, network, protocol and loss, whose parameter and buffer both ranks move alike."""
    stand_in_a_lab(tmp_path, monkeypatch, PROJECT)
    words = own(tmp_path / "run", folder)
    words += ["trainer=ddp_cpu", "+model.criterion.extra.bank={_target_: my_lab.Bank, weight: 0.2}"]
    line = [sys.executable, "-m", "mpanet_pl.train", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["provenance"]["ranks"] == 2
    with (tmp_path / "run/metrics.csv").open() as file:
        losses = [float(row["train/spread"]) for row in csv.DictReader(file) if row["train/spread"]]
    assert losses
    state = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert state["criterion.extra.spread.steps"] == len(losses)
    assert state["criterion.extra.spread.factor"] != 1
    assert state["criterion.extra.bank.seen"].any(1).all(), "each identity, whichever rank saw it"


@pytest.mark.slow
def test_a_sweep_of_own_parts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_a_lab(tmp_path, monkeypatch, PROJECT)
    sweep = [*own(tmp_path / "run", folder)[:-1], f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    sweep.append("model.criterion.margin=0.3,0.7")
    assert type_in("train", train, ["-m", *sweep], monkeypatch) == 0
    assert all((tmp_path / "sweep" / job / "results.json").exists() for job in ("0", "1"))
