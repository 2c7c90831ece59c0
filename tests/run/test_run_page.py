"""What a run and a folder of runs write for people: one page that needs no network, and a log."""

import logging
import re
import warnings
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from unittest.mock import ANY, Mock

import pytest
from PIL import Image

from mpanet_pl.errors import RunStopped
from mpanet_pl.evaluation import Results
from mpanet_pl.run import report
from mpanet_pl.run.logbook import LOG, logged, say
from mpanet_pl.run.pages import folded, pictures, remarks, section
from mpanet_pl.run.pictures.rank_list import SPREAD
from mpanet_pl.run.report import _pictures
from mpanet_pl.run.run_page import PICTURES, cost_of, write_run_page
from mpanet_pl.run.summary import summarize
from mpanet_pl.run.summary_page import costs, leaderboards
from mpanet_pl.system.processes import CHILD_CONFIG

TIMING = """epoch,train_seconds,images_per_second,validation_seconds,gpu_memory_gib,processor_seconds
1,10.0,100.0,0.0,2.0,20.0
2,30.0,200.0,5.0,3.0,70.0
"""


def write_run(folder: Path, r1: float, seed: int, method: str = "mpanet", **config: object) -> Results:
    folder.mkdir(parents=True)
    score = {"mean": r1, "std": None, "ci": [r1 - 9, r1 + 9]}
    results = Results(
        scores={"last": {"all/single": {"r1": score, "mAP": score, "mINP": score}}},
        measured={"all/single": "cosine <similarity>"},
        published={"all/single": {"r1": 70.58}},
        provenance={
            "dataset": "sysu",
            "seed": seed,
            "epochs": 2,
            "device": "CPU, 2 cores",
            "weights": 1_500_000,
            "date": f"2026-01-01T00:00:0{seed}",
            "overrides": ["dataset=sysu"],
            "config": {"dataset": "sysu", "method": method, "seed": seed, **config},
        },
        notes=["network: <script>alert(1)</script>"],
    )
    results.write(folder)
    (folder / "config.yaml").write_text("dataset: sysu\nsecret: <b>\n")
    (folder / "timing.csv").write_text(TIMING)
    return results


def text_of(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8")))


def test_a_runs_page_shows_scores_pictures_configuration_and_files_without_a_network(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    results = write_run(folder, 60.0, seed=1)
    Image.new("RGB", (1200, 30)).save(folder / "curves.png")
    Image.new("RGB", (30, 30)).save(folder / "cmc.png")
    (folder / "queries.npz").touch()
    write_run_page(folder, results)
    page, text = (folder / "index.html").read_text(encoding="utf-8"), text_of(folder / "index.html")
    for words in ("mpanet on sysu", "60.0", "51.0–69.0", "70.58", "cosine <similarity>", "secret: <b>", "45 s, 175 im"):
        assert words in text
    assert "its terms apply to this network" in text
    assert "<script>" not in page, "what a stranger wrote is text"
    linked = ["results.md", "results.json", "queries.npz", "timing.csv", "config.yaml", "cmc.png", "curves.png"]
    assert re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page) == linked, "every link lies beside the page"
    assert "http" not in page.replace("http-equiv", "")
    assert page.index(PICTURES["cmc"][1][:40]) < page.index(PICTURES["curves"][1][:40])
    assert PICTURES["patterns"][0] not in page, "a picture that was not drawn"
    assert page.count('<figure class="broad">') == 1, "the wide one has a row of its own"
    assert page.count('src="data:image/png;base64,') == 2
    assert '<p class="lead">seed 1, 2 epochs, CPU, 2 cores, 2026-01-01 00:00:01</p>' in page
    assert page.count("<thead>") == 1, "of the scores: facts and files have no titles"


def test_every_picture_of_a_run_has_a_title_on_its_page() -> None:
    nothing: Any = Mock()
    drawn = {*_pictures(nothing, nothing, nothing, SPREAD, None), "roc.png", "det.png", "similarity_by_modality.png"}
    assert drawn == {f"{name}.png" for name in PICTURES}


def test_a_page_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    results = write_run(tmp_path / "run", 60.0, seed=1)
    write_run_page(tmp_path / "run", replace(results, provenance={"dataset": "sysu", "seed": 1, "epochs": 2}))
    assert '<p class="lead">seed 1, 2 epochs</p>' in (tmp_path / "run/index.html").read_text(encoding="utf-8")
    assert section("Nothing", pictures([]), remarks([]), folded("Configuration", "")) == ""


def test_a_picture_that_fails_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.csv").touch()
    chosen: list[object] = []
    monkeypatch.setattr(report, "draw_curves", lambda metrics, path: path.touch())
    monkeypatch.setattr(report, "best_ranked", lambda *_, choice: chosen.append(choice) or 1 / 0)
    monkeypatch.setattr(report, "draw_cmc", lambda scores, path: path.write_text(scores))
    broken: Any = Mock(spec=["data", "protocol"])
    report.draw_pictures(tmp_path, Mock(scores="curve", embeddings=None), broken, broken, 7)
    assert chosen == [7, "worst"]
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "curves.png", "cmc.png"}
    said = capsys.readouterr().err
    assert said.count("could not be drawn: ") == 5
    assert "rank_list_worst.png could not be drawn: division by zero" in said


def test_the_end_says_what_to_do_next_with_the_runs_own_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    report.print_end(write_run(folder, 60.0, seed=1), Mock(), Mock(ground_truth=None, chance="by chance 1.0"), folder)
    printed = capsys.readouterr().out
    for words in ("60.0", "by chance 1.0", f"ckpt={folder}/checkpoints/last.ckpt", f"resume={folder} ", str(folder)):
        assert words in printed


@pytest.mark.parametrize("damage", ["", "epoch\n1\n", TIMING.replace("10.0", "soon")])
def test_a_damaged_timing_costs_the_page_its_cost_alone(damage: str, tmp_path: Path) -> None:
    (tmp_path / "timing.csv").write_text(damage)
    assert cost_of(tmp_path) is None


def test_a_folder_of_runs_has_a_leaderboard_best_first_with_seeds_cost_and_links(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / f"agw_{seed}", 50.0 + seed, seed, method="agw", lr=0.1)
        write_run_page(tmp_path / f"mpanet {seed}", write_run(tmp_path / f"mpanet {seed}", 60.0 + seed, seed))
    found = summarize([tmp_path])
    assert {group.name for group in found.groups} == {"sysu agw", "sysu mpanet"}, "a method stands for its keys"
    found.write(tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    board = unescape(page[page.index("<table>") : page.index("</table>")])
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in board.split("<tr>")[2:]]
    seeds = "2<small>seed 1, 2</small>"
    assert [row[:2] for row in rows[:2]] == [["mpanet", seeds], ["agw", seeds]]
    assert rows[0][2].startswith("61.5±0.7")
    assert rows[0][5] == "45 s<small>CPU, 2 cores</small>"
    assert 'href="mpanet%201/index.html"' in rows[0][6]
    assert "href" not in rows[1][6], "a run without a page"
    assert rows[2][2] == "70.58"
    assert (tmp_path / "summary.md").read_text().count("| 45 s | 1.5 | 1.50 |") == 2, "minutes of a processor"
    for timing in tmp_path.rglob("timing.csv"):
        timing.unlink()
    assert "61.5±0.7" in page.partition("All tables")[2], "narrow as the board is"
    assert costs(found.groups) == (ANY, [["sysu agw", "", "", "1.50"], ["sysu mpanet", "", "", "1.50"]])
    for run in found.groups[0].runs:
        run.provenance.pop("weights")
    assert costs(found.groups) == (ANY, [["sysu agw", "", "", ""], ["sysu mpanet", "", "", "1.50"]])
    assert costs(found.groups[:1]) is None


def test_a_leaderboard_shows_the_last_epoch_or_the_result_there_is(tmp_path: Path) -> None:
    for name, rows in {"trained": {"best": 80.0, "last": 60.0}, "evaluated": {"best": 70.0}}.items():
        of = write_run(tmp_path / name, 0.0, seed=1, method=name)
        (only,) = of.scores["last"].values()
        scores = {
            row: {"all/single": {**only, "r1": {"mean": r1, "std": None, "ci": None}}} for row, r1 in rows.items()
        }
        replace(of, scores=scores).write(tmp_path / name)
    ((_, ranked),) = leaderboards(summarize([tmp_path]).groups, tmp_path)
    assert [(row[0], row[2]) for row in ranked[:2]] == [("evaluated", "70.0"), ("trained", "60.0")]


def test_the_log_holds_lines_warnings_and_how_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, level = warnings.showwarning, logging.getLogger("mpanet_pl").level
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        shown = warnings.showwarning
        with pytest.raises(RunStopped), logged(tmp_path):  # noqa: PT012 - the log is of all of it
            logging.getLogger("mpanet_pl.run.training").info("epoch %d", 1)
            say("a picture failed")
            warnings.warn("beware", UserWarning, stacklevel=1)
            raise RunStopped("the disk is full")
        with pytest.raises(ZeroDivisionError), logged(tmp_path):
            1 / 0  # noqa: B018
        assert warnings.showwarning is shown
    logging.getLogger("mpanet_pl.run.training").warning("afterwards")
    lines = (tmp_path / LOG).read_text().splitlines()
    ends = ["epoch 1", "a picture failed", "UserWarning: beware", "stopped: the disk is full", "stopped"]
    assert [line[20:] for line in lines[:5]] == ends
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines[:5])
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "a picture failed" in capsys.readouterr().err
    assert (warnings.showwarning, logging.getLogger("mpanet_pl").level) == (before, level)


def test_of_several_ranks_the_first_writes_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHILD_CONFIG, "config.yaml")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with logged(tmp_path):
        logging.getLogger("mpanet_pl").info("not here")
    assert not (tmp_path / LOG).exists()
