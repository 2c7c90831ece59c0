"""`evaluate protocol=open_set` and `protocol=mixed`: beside the table, what is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import type_in

from mpanet_pl.evaluate import evaluate, main
from mpanet_pl.evaluation import SYSUProtocol
from mpanet_pl.evaluation.features import read_features
from mpanet_pl.evaluation.mixed import evaluate_mixed
from mpanet_pl.evaluation.open_set import evaluate_open_set


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [(f"cam{c}/{i:04d}/{k}.jpg", i, c) for i in range(12) for c in range(1, 7) for k in range(2)]
    paths, people, cameras = zip(*rows, strict=True)
    draw = np.random.default_rng(0)
    embeddings = draw.normal(size=(12, 8))[list(people)] + draw.normal(size=(len(rows), 8))
    place = tmp_path / "theirs.npz"
    np.savez(place, embeddings=embeddings, paths=paths, identities=people, cameras=cameras)
    return place


def run(place: Path, monkeypatch: pytest.MonkeyPatch, *typed: str) -> dict:
    assert type_in("evaluate", evaluate, [f"features={place}", "dataset=sysu", "run_dir=out", *typed], monkeypatch) == 0
    return json.loads(Path("out/results.json").read_text())


def test_open_set_writes_its_thresholds(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = run(theirs, monkeypatch, "measure=open_set")
    embeddings, catalogue = read_features(theirs, infrared_cameras=(3, 6))
    expected = evaluate_open_set(embeddings, catalogue, SYSUProtocol())
    assert set(results["threshold"]) == set(expected)
    for setting, score in expected.items():
        assert results["threshold"][setting]["0.05"] == pytest.approx(np.mean(score.thresholds[0.05]))
        assert results["open_set"][setting]["real"]["0.1"] == pytest.approx(score.real[0.1])
    table = Path("out/results.md").read_text()
    assert "| all/single |" in table
    assert "DIR at FAR 1 %" in table
    assert "thresholds calibrated on people neither enrolled nor tested" in table
    assert Path("out/roc.png").stat().st_size > 5000


def test_mixed_galleries_are_told(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = run(theirs, monkeypatch, "measure=mixed")
    expected = evaluate_mixed(*read_features(theirs, infrared_cameras=(3, 6)), SYSUProtocol())
    assert results["mixed"]["overtaken"] == pytest.approx(expected.overtaken)
    assert results["mixed"]["probe"] == pytest.approx(expected.probe)
    assert "a linear probe tells the modality" in Path("out/results.md").read_text()
    assert Path("out/similarity_by_modality.png").stat().st_size > 5000


@pytest.mark.parametrize("name", ["open_set", "mixed"])
def test_they_may_be_called_protocols(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("mpanet_pl.evaluate.run_command", lambda command, function, typed: asked.extend(typed))
    main([f"protocol={name}", "dataset=sysu"])
    assert asked == [f"measure={name}", "dataset=sysu"]


def test_what_cannot_be_measured_says_what_can(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [f"features={theirs}", "dataset=sysu", "measure=nothing", "run_dir=out"]
    assert type_in("evaluate", evaluate, typed, monkeypatch) == 2
    assert "measure is one of open_set, mixed, got 'nothing'" in capsys.readouterr().err
