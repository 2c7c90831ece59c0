"""Many runs become one table, and nothing is averaged in silence."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import Results
from mpanet_pl.evaluation.published import mpanet
from mpanet_pl.run.summary import Summary, summarize
from mpanet_pl.summarize import main

HOW = "Euclidean distance of un-normalised embeddings; deduplicated CMC; no re-ranking"
SETTINGS = ("visible_to_thermal", "thermal_to_visible")


def write_run(
    folder: Path, r1: float, *, trial: int = 1, seed: int = 1, measured: str = HOW, date: str = "", **config: Any
) -> None:
    scores = {name: {"mean": r1 + shift, "std": None} for shift, name in enumerate(("r1", "r5", "r10", "r20"))}
    scores |= {name: {"mean": r1 - 5, "std": None} for name in ("mAP", "mINP")}
    Results(
        scores={row: dict.fromkeys(SETTINGS, scores) for row in ("last", "best")},
        measured=dict.fromkeys(SETTINGS, measured),
        published=mpanet("regdb", normalised=False, gallery="all images"),
        provenance={
            "dataset": "regdb",
            "trial": trial,
            "seed": seed,
            "date": date,
            "config": {"dataset": "regdb", "trial": trial, "seed": seed, "folder": str(folder), **config},
        },
        nuances={"siblings/shoe": r1 / 2, "pointing_one_map/mean": r1 / 4, "overlap/cosine": 50},
    ).write(folder)
    (folder / "config.yaml").write_text("dataset: regdb\n")


def ten_trials(root: Path, **config: Any) -> None:
    for trial in range(1, 11):
        write_run(root / f"trial_{trial}", 70 + trial, trial=trial, **config)


def remarks_of(summary: Summary) -> list[str]:
    return [remark for group in summary.groups for remark in group.remarks()]


def test_ten_trials_are_one_group_with_mean_and_sample_deviation(tmp_path: Path) -> None:
    ten_trials(tmp_path)
    (group,) = summarize([tmp_path]).groups
    assert group.name == "regdb"
    value = group.scores()["visible_to_thermal"]["last"]["r1"]
    assert value["mean"] == pytest.approx(75.5)
    assert value["std"] == pytest.approx(3.0277, abs=1e-4)
    assert len(value["runs"]) == 10
    assert group.nuances()["siblings/shoe"]["mean"] == pytest.approx(75.5 / 2)
    assert group.remarks() == []


def test_a_sweep_makes_a_group_of_each_of_its_points(tmp_path: Path) -> None:
    for patterns in (6, 0):
        for seed in (1, 2):
            folder = tmp_path / f"{patterns}_{seed}"
            write_run(folder, 60 + patterns + seed, seed=seed, model={"network": {"patterns": patterns}})
    groups = summarize([tmp_path]).groups
    assert [group.name for group in groups] == ["regdb model.network.patterns=0", "regdb model.network.patterns=6"]
    assert [group.scores()["thermal_to_visible"]["best"]["r1"]["mean"] for group in groups] == [61.5, 67.5]


def test_a_named_choice_names_its_groups_in_the_order_they_were_run_in(tmp_path: Path) -> None:
    for hour, (rung, patterns) in enumerate({"baseline": 0, "patterns": 6, "full": 6}.items()):
        write_run(
            tmp_path / rung, 60, date=f"2026-01-01T0{hour}:00:00", rung=rung, model={"network": {"patterns": patterns}}
        )
    groups = summarize([tmp_path]).groups
    assert [group.name for group in groups] == ["regdb rung=baseline", "regdb rung=patterns", "regdb rung=full"]


def test_nuances_are_shown_by_their_means_and_siblings_by_nuance(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / str(seed), 60 + 4 * seed, seed=seed)
    _, means, siblings = summarize([tmp_path]).tables()
    assert means == (["runs", "pointing one map", "overlap of maps"], [["regdb", "16.50 ± 0.71", "50.00 ± 0.00"]])
    assert siblings == (["siblings told apart", "shoe"], [["regdb", "33.00 ± 1.41"]])


def test_results_measured_in_two_ways_are_not_averaged(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 70)
    write_run(tmp_path / "b", 80, seed=2, measured="cosine similarity")
    groups = summarize([tmp_path]).groups
    assert len(groups) == 2
    assert "measured.visible_to_thermal=cosine similarity" in groups[1].name


def test_evaluated_checkpoints_stay_apart_from_the_runs_that_made_them(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 70)
    write_run(tmp_path / "evaluated", 70, ckpt="run/checkpoints/last.ckpt")
    assert {group.name for group in summarize([tmp_path]).groups} == {"regdb", "regdb (evaluated)"}


def test_evaluations_of_ten_trials_are_one_group_and_of_two_networks_two(tmp_path: Path) -> None:
    for patterns in (4, 6):
        for trial in range(1, 11):
            trained = {"model": {"patterns": patterns}, "trial": trial, "seed": 1, "data": {"workers": trial}}
            folder = tmp_path / f"{patterns}_{trial}"
            write_run(folder, 70 + trial, trial=trial, ckpt=f"{folder}/last.ckpt", trained=trained)
    groups = summarize([tmp_path]).groups
    assert [group.name for group in groups] == [f"regdb (evaluated) trained.model.patterns={n}" for n in (4, 6)]
    assert [len(group.runs) for group in groups] == [10, 10]
    assert not any(group.remarks() for group in groups)


NO_NUMBER = {"last": {"visible_to_thermal": {"r1": {"mean": None}}}}


@pytest.mark.parametrize("damage", [{"scores": 5}, {"provenance": 5}, {"scores": NO_NUMBER}])
def test_results_of_another_shape_are_listed(damage: dict[str, Any], tmp_path: Path) -> None:
    ten_trials(tmp_path)
    path = tmp_path / "trial_3/results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    assert list(summarize([tmp_path]).unfinished) == [str(path.parent)]


def test_unfinished_and_broken_runs_are_listed_and_not_counted(tmp_path: Path) -> None:
    ten_trials(tmp_path)
    (tmp_path / "trial_3" / "results.json").unlink()
    (tmp_path / "trial_3" / "metrics.csv").write_text("epoch,step\n1,9\n17,99\n")
    (tmp_path / "trial_5" / "results.json").write_text("{")
    summary = summarize([tmp_path])
    assert summary.unfinished.keys() == {str(tmp_path / "trial_3"), str(tmp_path / "trial_5")}
    assert "did not come to its end (it came to epoch 17)" in summary.unfinished[str(tmp_path / "trial_3")]
    assert "cannot be read" in summary.unfinished[str(tmp_path / "trial_5")]
    assert len(summary.groups[0].runs) == 8
    assert remarks_of(summary) == ["regdb: RegDB's results are means over ten trials; missing: 3, 5"]


def test_a_trial_that_is_there_twice_is_said(tmp_path: Path) -> None:
    ten_trials(tmp_path)
    write_run(tmp_path / "again", 99, trial=4)
    write_run(tmp_path / "other_seed", 99, trial=5, seed=2)
    said = "\n".join(remarks_of(summarize([tmp_path])))
    assert "trial 4, seed 1 is there 2 times, and counts each time: " in said
    assert f"{tmp_path / 'again'}, {tmp_path / 'trial_4'}" in said
    assert "trials do not weigh equally: 4 (2 runs), 5 (2 runs)" in said


def test_one_run_has_no_spread_and_overlapping_folders_count_once(tmp_path: Path) -> None:
    write_run(tmp_path / "one", 70)
    (group,) = summarize([tmp_path, tmp_path / "one"]).groups
    assert group.scores()["visible_to_thermal"]["last"]["r1"] == {"mean": 70, "std": None, "runs": [70]}


def test_folders_without_results_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no folder"):
        summarize([tmp_path / "absent"])
    with pytest.raises(UserError, match="No run below"):
        summarize([tmp_path])
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("dataset: regdb\n")
    with pytest.raises(UserError, match=r"begun has no results\.json: the run did not come to its end"):
        summarize([tmp_path])


def test_the_command_prints_the_table_and_leaves_three_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ten_trials(tmp_path)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("dataset: regdb\n")
    monkeypatch.setattr(sys, "argv", ["summarize", str(tmp_path)])
    main()
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0] == "| runs | setting | result | n | R1 | R5 | R10 | R20 | mAP | mINP |"
    assert lines[2].startswith("| regdb | visible_to_thermal | last | 10 | 75.50 ± 3.03 | ")
    assert lines[3].startswith("|  |  | best (selected on the test set) | 10 | 75.50 ± 3.03 | ")
    assert lines[4] == "|  |  | published (MPANet, CVPR 2021) |  | 83.70 |  |  |  | 80.90 |  |"
    assert f"- not counted: {tmp_path / 'begun'} has no results.json: the run did not come to its end" in lines

    assert (tmp_path / "summary.md").read_text() == printed
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored["groups"][0]["scores"]["visible_to_thermal"]["best"]["mAP"]["mean"] == pytest.approx(70.5)
    assert {run["trial"] for run in stored["groups"][0]["runs"]} == set(range(1, 11))
    assert list(stored["unfinished"]) == [str(tmp_path / "begun")]
    with (tmp_path / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = rows[0]
    assert (first["runs"], first["setting"], first["result"], first["score"]) == ("regdb", SETTINGS[0], "last", "r1")
    assert float(first["mean"]) == pytest.approx(75.5)
    assert rows[-1]["setting"] == "nuances"


def test_the_command_explains_itself_and_refuses_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["summarize", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "Every run below the folders is read" in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", ["summarize", str(tmp_path / "absent")])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == f"summarize: There is no folder {tmp_path / 'absent'}\n"
