"""`verify`: a stranger's table beside what his features give."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from golden import recipe

from mpanet_pl.verify import main

OFFICIAL = Path(recipe.HERE) / "beyond/feature_mat"
WAY = ["protocol.trials=3", "protocol.normalise=false"]


@pytest.fixture
def reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table with what the official evaluator gives, by two digits."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(OFFICIAL, tmp_path / "theirs")
    found = json.loads(OFFICIAL.with_suffix(".json").read_text())["results"]
    scores = {
        f"{mode}/{shots}": {
            "r1": {"mean": round(found[name]["mean"]["cmc"][0], 2), "std": None},
            "mAP": {"mean": round(found[name]["mean"]["mAP"], 2), "std": None},
        }
        for name, mode, shots in (("all_1", "all", "single"), ("indoor_1", "indoor", "single"))
    }
    table = {"scores": {"theirs": scores}, "measured": {}, "published": {}, "provenance": {"dataset": "sysu"}}
    (tmp_path / "results.json").write_text(json.dumps(table))
    return tmp_path / "results.json"


def change(reported: Path, *places: str, value: Any) -> None:
    """Put a value at a path of keys."""
    table = json.loads(reported.read_text())
    below = table
    for key in places[:-1]:
        below = below[key]
    below[places[-1]] = value
    reported.write_text(json.dumps(table))


def verified(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = 0
    try:
        main(["theirs", "results.json", *arguments])
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    told = capsys.readouterr()
    return code, told.out + told.err


def test_a_true_table_is_what_its_features_give(reported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = verified(capsys, *WAY)
    assert code == 0, told
    assert "All 4 scores of results.json are what theirs gives." in told
    assert "| setting | score | reported | recomputed |" in told
    assert told.count("| = |") == 4


def test_what_differs_is_named_with_both_numbers(reported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = json.loads(reported.read_text())["scores"]["theirs"]["all/single"]["mAP"]["mean"]
    change(reported, "scores", "theirs", "all/single", "mAP", value={"mean": mine + 0.02, "std": 99.0, "ci": [0, 1]})
    change(reported, "scores", "theirs", "all/single + affinity", value={"r1": {"mean": 1.0, "std": None}})
    change(reported, "measured", value={"indoor/single": "as others do"})
    code, told = verified(capsys, *WAY)
    assert code == 1
    assert f"all/single, mAP: the mean is reported as {mine + 0.02:.2f}, and the features give {mine:.2f}." in told
    assert "all/single, mAP: the deviation is reported as 99.00" in told
    assert "all/single, mAP: the upper end of its interval is reported as 1.00" in told
    assert "all/single + affinity is reported, and the features give no such setting (add rerank=…)." in told
    assert "indoor/single is reported as measured by: as others do; here by: Euclidean distance" in told
    assert "indoor/single, R1" not in told.partition("does not give")[2]


def test_another_way_of_measuring_gives_another_table(reported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By cosine, the default, these features score otherwise."""
    assert verified(capsys, "protocol.trials=3")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--result", "best", *WAY], "The report has no result 'best': say which, --result theirs."),
        (["dataset=regbd"], "Did you mean 'regdb'?"),
    ],
)
def test_a_mistake_is_a_sentence(
    arguments: list[str], said: str, reported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = verified(capsys, *arguments)
    assert (code, said in told) == (2, True), told


def test_of_several_rows_one_is_said(reported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = json.loads(reported.read_text())["scores"]["theirs"]
    change(reported, "scores", value={"A": scores, "B": scores})
    assert "say which, --result A or B." in verified(capsys, *WAY)[1]
    assert verified(capsys, "--result", "B", *WAY)[0] == 0
    change(reported, "scores", value={"A": {}, "theirs": scores})
    code, told = verified(capsys, *WAY)
    assert (code, "All 4 scores" in told) == (0, True), "the row of the features' name"
