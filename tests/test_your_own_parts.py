"""docs/your_own_parts.md: its file is a lab, its command trains there, and what it leaves is loaded as it says."""

import shutil
from pathlib import Path

import pytest
from commands import SMALL_WORLD, type_in
from lab import stand_in_a_lab
from test_readme import ROOT, blocks

from mpanet_pl.train import train

PAGE = ROOT / "docs/your_own_parts.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lab, loading = blocks(PAGE, "python")
    stand_in_a_lab(tmp_path, monkeypatch, lab)
    arguments = [
        *SMALL_WORLD[:-1],
        "trainer.max_epochs=1",
        f"data_dir={tmp_path / 'world'}",
        f"run_dir={tmp_path / 'run'}",
        "+model.network._target_=my_lab.Strip",
        "+model.criterion.extra.compact={_target_: my_lab.Compact, weight: 0.3, start: 0.2}",
    ]
    assert "+model.criterion.extra.compact={_target_: my_lab.Compact, weight: 0.3, start: 0.2}" in PAGE.read_text()
    assert type_in("train", train, arguments, monkeypatch) == 0, capsys.readouterr().err
    assert "train/compact" in (tmp_path / "run/metrics.csv").read_text()
    shutil.copy(tmp_path / "run/checkpoints/last.ckpt", tmp_path / "handed_over.ckpt")
    capsys.readouterr()
    exec(compile(loading, PAGE.name, "exec"), {})
    assert float(capsys.readouterr().out) != 0.2, "it learned"


def test_its_network_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from mpanet_pl import MPANetModule

    stand_in_a_lab(tmp_path, monkeypatch, blocks(PAGE, "python")[0])
    settings = {"criterion": {}, "optimizer": {}, "schedule": {"milestones": [1]}}
    module = MPANetModule(3, network={"_target_": "my_lab.Strip", "width": 8}, **settings)
    assert module(torch.zeros(2, 3, 64, 32)).shape == (2, 8)
