"""Trained on two datasets, tested on two: one run, one table; and nobody tested on whom it was trained on."""

import csv
import json
from pathlib import Path

import pytest
from commands import SMALL, compose, type_in
from hydra.utils import instantiate

from mpanet_pl.errors import UserError
from mpanet_pl.evaluate import evaluate
from mpanet_pl.prepare import prepare
from mpanet_pl.run.datasets import set_trial
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
        *(
            "trial=2",
            "data.identities_per_batch=6",
            "+callbacks.by_dataset._target_=mpanet_pl.run.callbacks.LogByDataset",
        ),
    ]
    assert type_in("train", train, joint, monkeypatch) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    settings = {f"{way}" for way in results["scores"]["last"]}
    assert settings == {
        *("llcm/visible_to_infrared", "llcm/infrared_to_visible"),
        *("regdb/visible_to_thermal", "regdb/thermal_to_visible"),
    }
    with (tmp_path / "run/metrics.csv").open() as file:
        logged = next(csv.DictReader(file))
    for name in ("sysu", "regdb"):
        assert 1 < float(logged[f"by_dataset/{name}/identity"]) < 20
        assert 0 <= float(logged[f"by_dataset/{name}/accuracy"]) <= 1
    assert logged["by_dataset/sysu/identity"] != logged["by_dataset/regdb/identity"]
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
    other = [ckpt, "trainer.accelerator=cpu", "dataset=regdb", f"data_dir={regdb}", "trial=1", cache]
    assert type_in("evaluate", evaluate, [*other, f"run_dir={tmp_path / 'x'}"], monkeypatch) == 2
    assert "last.ckpt was trained on" in capsys.readouterr().err
    features = tmp_path / "features.npz"
    allowed = [*other, "allow_trained_people=true", f"run_dir={tmp_path / 'y'}", f"save_features={features}"]
    assert type_in("evaluate", evaluate, allowed, monkeypatch) == 0
    assert "allow_trained_people: " in (tmp_path / "y/results.md").read_text()
    again = ["evaluate", evaluate, [f"features={features}", f"run_dir={tmp_path / 'z'}"], monkeypatch]
    assert type_in(*again) == 2  # the file says whom the network was trained on
    assert "was saved with allow_trained_people=true" in capsys.readouterr().err
    again[2].append("allow_trained_people=true")
    assert type_in(*again) == 0


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
    assert [line.split("│")[5].strip() for line in told.splitlines() if "│" in line] == [
        "sysu 1 2 4 5",
        "sysu 3 6",
        "regdb 1",
        "regdb 2",
    ]
    assert "terms: sysu: its owners' agreement; regdb: its owners' agreement" in told


@pytest.mark.parametrize(
    ("words", "trial"),
    [
        (["train_on=[sysu]", "test_on=[regdb]"], 1),
        (["train_on=[sysu]", "test_on=[regdb]", "trial=4"], 4),
        (["train_on=[sysu]", "test_on=[llcm]"], None),
    ],
)
def test_a_joint_trial_is_that_of_its_member(words: list[str], trial: int | None) -> None:
    cfg = compose("train", ["dataset=joint", *words])
    set_trial(cfg)
    assert cfg.trial == trial
    if trial:
        assert instantiate(cfg.data.dataset).members["regdb"].trial == trial


def test_a_trial_of_nobody_is_refused() -> None:
    with pytest.raises(UserError, match="has no trials: leave out trial=4"):
        set_trial(compose("train", ["dataset=joint", "train_on=[sysu]", "test_on=[llcm]", "trial=4"]))
