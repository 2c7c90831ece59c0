"""Trained on two datasets, tested on two: one run, one table; and nobody tested on whom it was trained on."""

import json
from pathlib import Path

import pytest
from commands import SMALL, type_in

from mpanet_pl.evaluate import evaluate
from mpanet_pl.prepare import prepare
from mpanet_pl.train import train


@pytest.mark.slow
def test_a_joint_run(
    sysu: Path, regdb: Path, llcm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    places = [f"data_dirs.{name}={root}" for name, root in (("sysu", sysu), ("regdb", regdb), ("llcm", llcm))]
    cache = f"data.cache={tmp_path / 'caches'}"
    small = [text for text in SMALL if "trunk" not in text]
    joint = [
        *("dataset=joint", "train_on=[sysu,regdb]", "test_on=[llcm,regdb]", *places, *small, cache),
        *("model.network.trunk=resnet18_thin", "trainer.max_epochs=1", "trainer.limit_train_batches=1"),
        *("trainer.check_val_every_n_epoch=1", "validation.start=1", f"run_dir={tmp_path / 'run'}"),
    ]
    assert type_in("train", train, joint, monkeypatch) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    settings = {f"{way}" for way in results["scores"]["last"]}
    assert settings == {
        *("llcm/visible_to_infrared", "llcm/infrared_to_visible"),
        *("regdb/visible_to_thermal", "regdb/thermal_to_visible"),
    }
    ckpt = f"ckpt={tmp_path / 'run/checkpoints/last.ckpt'}"
    again = [ckpt, "trainer.accelerator=cpu", f"run_dir={tmp_path / 'again'}"]
    assert type_in("evaluate", evaluate, again, monkeypatch) == 0
    assert json.loads((tmp_path / "again/results.json").read_text())["scores"]["last"] == results["scores"]["last"]
    matrix = [f"ckpts=[{ckpt[5:]}]", "trainer.accelerator=cpu", "dataset=joint", "test_on=[llcm]", *places[2:], cache]
    assert type_in("evaluate", evaluate, [*matrix, f"run_dir={tmp_path / 'matrix'}"], monkeypatch) == 0
    header, _, row = (tmp_path / "matrix/matrix.md").read_text().splitlines()[:3]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert [cell.strip() for cell in header.strip("|").split("|")][2:] == [
        name for name in results["scores"]["last"] if "llcm" in name
    ]
    assert cells[:2] == [ckpt[5:], "sysu + regdb"]
    assert cells[2].split(" ")[0] == f"{results['scores']['last']['llcm/visible_to_infrared']['r1']['mean']:.1f}"
    capsys.readouterr()
    other = [ckpt, "trainer.accelerator=cpu", "dataset=regdb", f"data_dir={regdb}", "trial=2", cache]
    assert type_in("evaluate", evaluate, [*other, f"run_dir={tmp_path / 'x'}"], monkeypatch) == 2
    assert "last.ckpt was trained on" in capsys.readouterr().err
    allowed = [*other, "allow_trained_people=true", f"run_dir={tmp_path / 'y'}"]
    assert type_in("evaluate", evaluate, allowed, monkeypatch) == 0
    assert "allow_trained_people: " in (tmp_path / "y/results.md").read_text()


def test_a_joint_card(
    sysu: Path, regdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    asked = [
        "dataset=joint",
        "train_on=[sysu]",
        "test_on=[regdb]",
        f"data_dirs.sysu={sysu}",
        f"data_dirs.regdb={regdb}",
    ]
    asked += ["data.height=24", "data.width=12", "data.identities_per_batch=2", f"data.cache={tmp_path}"]
    assert type_in("prepare", prepare, asked, monkeypatch) == 0
    told = capsys.readouterr().out
    assert "train people by dataset: sysu 4" in told
    assert "terms: sysu: its owners' agreement; regdb: its owners' agreement" in told
