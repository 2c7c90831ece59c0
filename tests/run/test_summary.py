"""Many runs become one table, and nothing is averaged in silence."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import Results, Scores
from mpanet_pl.evaluation.outcomes import Outcomes
from mpanet_pl.evaluation.published import mpanet
from mpanet_pl.features.queries import write_queries
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
        published=mpanet("regdb", similarity="euclidean", gallery="all images"),
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
    value = group.scores["visible_to_thermal"]["last"]["r1"]
    assert value["mean"] == pytest.approx(75.5)
    assert value["std"] == pytest.approx(3.0277, abs=1e-4)
    assert len(value["runs"]) == 10
    assert group.nuances["siblings/shoe"]["mean"] == pytest.approx(75.5 / 2)
    assert group.remarks() == []


def test_a_sweep_makes_a_group_of_each_of_its_points(tmp_path: Path) -> None:
    for patterns in (6, 0):
        for seed in (1, 2):
            folder = tmp_path / f"{patterns}_{seed}"
            write_run(folder, 60 + patterns + seed, seed=seed, model={"network": {"patterns": patterns}})
    groups = summarize([tmp_path]).groups
    assert [group.name for group in groups] == ["regdb model.network.patterns=0", "regdb model.network.patterns=6"]
    assert [group.scores["thermal_to_visible"]["best"]["r1"]["mean"] for group in groups] == [61.5, 67.5]


def test_a_named_choice_names_its_groups_in_the_order_they_were_run_in(tmp_path: Path) -> None:
    for hour, (rung, patterns) in enumerate({"baseline": 0, "patterns": 6, "full": 6}.items()):
        write_run(
            tmp_path / rung, 60, date=f"2026-01-01T0{hour}:00:00", rung=rung, model={"network": {"patterns": patterns}}
        )
    groups = summarize([tmp_path]).groups
    assert [group.name for group in groups] == ["regdb baseline", "regdb patterns", "regdb full"]


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


def change_results(folder: Path, **provenance: Any) -> None:
    stored = json.loads((folder / "results.json").read_text())
    stored["provenance"] |= provenance
    (folder / "results.json").write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("ran", "telling"),
    [
        ({"precision": "bf16-mixed", "accelerator": "cuda"}, "ran.precision=bf16-mixed"),
        ({"device": "2 × CPU, 2 cores"}, "ran.ranks=2"),  # as 0.1 wrote it
        ({"ranks": 2}, "ran.ranks=2"),
        ({"versions": {"mpanet_pl": "0.1.0", "torch": "2.7"}}, "ran.mpanet_pl=0.1.0"),
        ({"changes": ["after epoch 3: precision 32-true → bf16-mixed"]}, "ran.changes=after epoch 3"),
    ],
)
def test_runs_that_ran_otherwise_are_not_averaged(ran: dict[str, Any], telling: str, tmp_path: Path) -> None:
    trainer = {"precision": "auto", "accelerator": "auto", "devices": "auto"}
    for seed in (1, 2, 3):
        write_run(tmp_path / str(seed), 70, seed=seed, trainer=trainer)
        told = {"precision": "32-true", "device": "CPU, 2 cores", "versions": {"mpanet_pl": "0.2.0", "torch": "2.14"}}
        change_results(tmp_path / str(seed), **told | (ran if seed == 3 else {}))
    groups = summarize([tmp_path]).groups
    assert sorted(len(group.runs) for group in groups) == [1, 2]
    assert telling in next(group.name for group in groups if len(group.runs) == 1)


def test_what_was_asked_for_and_came_to_the_same_is_one_group(tmp_path: Path) -> None:
    """`auto` on a machine with a CPU and `cpu` typed; other libraries; a GPU of another name."""
    for seed, accelerator in enumerate(("auto", "cpu"), 1):
        write_run(tmp_path / str(seed), 70, seed=seed, trainer={"accelerator": accelerator})
        change_results(tmp_path / str(seed), precision="32-true", device=f"CPU, {seed} cores")
    assert len(summarize([tmp_path]).groups) == 1


def test_trials_under_two_mount_points_are_one_group(tmp_path: Path) -> None:
    for trial in range(1, 11):
        root = "/mnt/a/RegDB" if trial % 2 else "/data/RegDB"
        write_run(
            tmp_path / str(trial),
            70,
            trial=trial,
            data_dir=root,
            data={"dataset": {"root": root}},
            file=f"{root}/x.mat",
        )
    (group,) = summarize([tmp_path]).groups
    assert group.remarks() == []


def test_a_trial_where_a_query_has_no_match_is_no_group_of_its_own(tmp_path: Path) -> None:
    ten_trials(tmp_path)
    some = HOW.replace("; no re", "; 9 of 10 queries have a true match; no re")
    write_run(tmp_path / "trial_4", 74, trial=4, measured=some)
    write_run(tmp_path / "trial_5", 75, trial=5, measured=f"{HOW}; 2055 of 2060 queries have a true match")
    assert [len(group.runs) for group in summarize([tmp_path]).groups] == [10]


def test_last_and_best_of_one_run_evaluated_are_two_rows_and_not_there_twice(tmp_path: Path) -> None:
    trained = {"model": {"patterns": 6}, "trial": 1, "seed": 1}
    for row, r1 in (("last", 70.0), ("best", 75.0)):
        write_run(tmp_path / row, r1, ckpt=f"run/checkpoints/{row}.ckpt", trained=trained)
        path = tmp_path / row / "results.json"
        stored = json.loads(path.read_text())
        path.write_text(json.dumps(stored | {"scores": {row: stored["scores"][row]}}))
    (group,) = summarize([tmp_path]).groups
    rows = group.scores["visible_to_thermal"]
    assert {row: value["r1"]["runs"] for row, value in rows.items()} == {"last": [70.0], "best": [75.0]}
    assert not any("there 2 times" in remark for remark in group.remarks())


def test_one_broken_run_stops_nothing(tmp_path: Path) -> None:
    ten_trials(tmp_path)
    (tmp_path / "trial_3/results.json").write_text("[" * 100_000)
    (tmp_path / "trial_3/metrics.csv").write_bytes(bytes(range(128, 256)) * 9)
    (tmp_path / "trial_4/results.json").write_bytes(bytes(range(256)))
    (tmp_path / "trial_5/results.json").write_text('{"scores": {"last": [1]}}')
    summary = summarize([tmp_path])
    assert sorted(Path(folder).name for folder in summary.unfinished) == ["trial_3", "trial_4", "trial_5"]
    assert len(summary.groups[0].runs) == 7


def test_intervals_are_of_people_and_of_runs(tmp_path: Path) -> None:
    """One run's are its own; several that lie far apart have a wider one than several that agree."""
    width, draw = {}, torch.Generator().manual_seed(0)
    for name, shifts in {"one": (0,), "near": (0, 1, 2), "apart": (0, 150, 300)}.items():
        for seed, shift in enumerate(shifts, 1):
            folder = tmp_path / name / str(seed)
            write_run(folder, 70, seed=seed)
            first = torch.where(torch.arange(600) < 300 + shift, 1, 9)[None, torch.randperm(600, generator=draw)]
            people = torch.arange(600) % 60
            values = 1 / first.double()
            scores = Scores.of(Outcomes(torch.arange(600), people, first, values, values), HOW)
            kept = {row: dict.fromkeys(SETTINGS, scores) for row in ("last", "best")}
            write_queries(folder / "queries.npz", kept, [f"{n}.bmp" for n in range(600)])
        (group,) = summarize([tmp_path / name]).groups
        low, high = group.scores["visible_to_thermal"]["last"]["r1"]["ci"]
        width[name] = high - low
        if name == "one":
            assert (low, high) == pytest.approx(scores.ci["r1"])
    assert width["near"] < width["one"] < width["apart"]
    low, high = group.scores["visible_to_thermal"]["last"]["r10"]["ci"]  # all of 60 people are found by rank 9
    assert (low, high) == pytest.approx((100 * 0.025 ** (1 / 60), 100))
    (tmp_path / "near" / "2" / "queries.npz").unlink()
    (group,) = summarize([tmp_path / "near"]).groups
    assert group.scores["visible_to_thermal"]["last"]["r1"]["ci"] is None


def test_groups_are_compared_with_the_first_where_they_can_be(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(1)
    for hour, (rung, chance) in enumerate({"baseline": 0.4, "full": 0.7, "other": 0.7}.items()):
        for seed in (1, 2):
            folder = tmp_path / rung / str(seed)
            write_run(folder, 70, seed=seed, rung=rung, date=f"2026-01-01T0{hour}:00:00")
            first = torch.where(torch.rand(600, generator=draw) < chance, 1, 9)[None]
            scores = Scores.of(Outcomes(torch.arange(600), torch.arange(600) % 60, first, 1 / first, 1 / first), HOW)
            names = "xyz.bmp" if rung == "other" else ".bmp"  # other queries
            write_queries(folder / "queries.npz", {"last": {SETTINGS[0]: scores}}, [f"{n}{names}" for n in range(600)])
    summary = summarize([tmp_path])
    header, rows = summary.tables()[1]
    assert header[:2] == ["setting", "result"]
    first, second = "regdb baseline", "regdb full"
    assert [cells[:2] for cells in rows] == [[SETTINGS[0], name] for name in (first, second, f"{second} − {first}")]
    assert rows[2][2].startswith("+")
    assert not any("rung=other" in cells[1] for cells in rows)


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
    assert group.scores["visible_to_thermal"]["last"]["r1"] == {"mean": 70, "std": None, "runs": [70], "ci": None}


def test_folders_without_results_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no folder"):
        summarize([tmp_path / "absent"])
    with pytest.raises(UserError, match="No run below"):
        summarize([tmp_path])
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("dataset: regdb\n")
    with pytest.raises(UserError, match=r"begun has no results\.json: the run did not come to its end"):
        summarize([tmp_path])


def test_the_command_prints_the_table_and_leaves_its_files(
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
    tex = (tmp_path / "summary.tex").read_text()
    assert r"regdb & visible\_to\_thermal & last & 10 & 75.50 $\pm$ 3.03 & " in tex
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


def jobs(root: Path, on: str, monitored: dict[float, list[float]]) -> None:
    for rate, values in monitored.items():
        for seed, value in enumerate(values, 1):
            folder = root / f"{rate}_{seed}"
            validation = {"on": on, "monitor": ["visible_to_thermal/mAP"]}
            write_run(folder, 70, seed=seed, lr=rate, validation=validation)
            change_results(folder, validation=on, monitored=value)


def test_jobs_are_ranked_by_what_they_monitored_and_it_says_among_how_many(tmp_path: Path) -> None:
    jobs(tmp_path, "held_out", {0.1234567891: [50.0, 54.0], 0.2: [60.0, 58.0], 0.3: [40.0, 40.0]})
    summary = summarize([tmp_path])
    _, (header, rows), *_ = summary.tables()
    assert header == ["place", "runs", "n", "visible_to_thermal/mAP on held-out training people"]
    assert rows == [
        ["1", "regdb lr=0.2", "2", "59.00 ± 1.41"],
        ["2", "regdb lr=0.123457", "2", "52.00 ± 2.83"],
        ["3", "regdb lr=0.3", "2", "40.00 ± 0.00"],
    ]
    (remark,) = [remark for remark in summary.remarks() if "chosen among" in remark]
    assert "among 3 configurations (6 runs), by visible_to_thermal/mAP on held-out training people" in remark
    assert "and not those on the test set" in remark
    summary.write(tmp_path)
    (ranking,) = json.loads((tmp_path / "summary.json").read_text())["rankings"]
    assert [place["name"] for place in ranking["places"]] == [row[1] for row in rows]
    assert ranking["on"] == "held_out"


def test_who_is_chosen_on_the_test_set_is_told_so(tmp_path: Path) -> None:
    jobs(tmp_path, "test", {0.1: [50.0], 0.2: [60.0]})
    (remark,) = [remark for remark in summarize([tmp_path]).remarks() if "chosen among" in remark]
    assert "on the test set itself, which flatters its scores: validation.on=held_out would not" in remark


def test_what_was_chosen_in_two_ways_is_not_ranked_together(tmp_path: Path) -> None:
    jobs(tmp_path / "a", "test", {0.1: [50.0]})
    jobs(tmp_path / "b", "held_out", {0.2: [60.0]})
    assert not [remark for remark in summarize([tmp_path]).remarks() if "chosen among" in remark]
