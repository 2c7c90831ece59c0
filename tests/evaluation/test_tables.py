"""One object behind the screen, results.md and results.json."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation import made
from rich.console import Console

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import Results, Scores, SYSUProtocol, evaluate
from mpanet_pl.evaluation.published import mpanet

PAPER = mpanet("sysu", similarity="cosine", gallery="official permutations", trials=10)
HOW = "cosine similarity; deduplicated CMC; 2 galleries; no re-ranking"


def scores(shift: float = 0.0, trials: int = 2) -> Scores:
    curve = torch.linspace(0.5, 0.9, 20).double() + shift
    apart = torch.arange(trials).double() / 100
    return Scores(curve + apart[:, None], 0.4 + shift + apart, 0.2 + shift + apart, HOW)


def results() -> Results:
    return Results.of(
        {"last": {"all/single": scores()}, "best": {"all/single": scores(0.01)}},
        PAPER,
        {"dataset": "sysu", "seed": 3, "versions": {"torch": "2.6"}, "overrides": ["seed=3"]},
        nuances={"images/glasses": 12.0},
        tables=[(["nuance", "images"], [["glasses", "12"]])],
        notes=["Flips were averaged."],
    )


def test_markdown_puts_the_published_row_below_and_says_what_best_means() -> None:
    lines = results().markdown().splitlines()
    assert lines[0] == "| setting | result | R1 | R5 | R10 | R20 | mAP | mINP |"
    assert lines[2].startswith("| all/single | last | 50.50 ± 0.71 | ")
    assert lines[3].startswith("|  | best (selected on the test set) | 51.50 ± 0.71 | ")
    assert lines[4] == "|  | published (MPANet, CVPR 2021) | 70.58 |  | 96.21 | 98.80 | 68.24 |  |"
    assert "| glasses | 12 |" in lines
    assert f"- all/single: {HOW}" in lines
    assert "- Flips were averaged." in lines
    assert lines[-1] == "- dataset: sysu; seed: 3; overrides: seed=3"


def test_a_single_trial_shows_no_spread() -> None:
    one = Results.of({"last": {"visible_to_thermal": scores(trials=1)}}, {}, {})
    assert "±" not in one.markdown()


def test_what_spread_and_interval_are_is_said() -> None:
    embeddings, catalogue = made.small(2)
    found = evaluate(embeddings, catalogue, SYSUProtocol(trials=3))
    text = Results.of({"last": {"all/single": found["all/single"]}}, {}, {}).markdown()
    assert "- ± is the sample standard deviation over trials" in text
    assert "- a–b is the 95 % interval over other people like these, whose queries count together" in text
    same = Results.of({"last": {"all/multi": found["all/multi"]}}, {}, {}).markdown()
    assert ("it is 0.00 where all trials agree" in same) == ("± 0.00" in same)
    assert "0.00 where" not in results().markdown()


def test_the_file_holds_what_was_promised_and_reads_back(tmp_path: Path) -> None:
    results().write(tmp_path)
    stored = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    value = stored["scores"]["best"]["all/single"]["r1"]
    assert value == {
        "mean": pytest.approx(51.5),
        "std": pytest.approx(0.7071, abs=1e-4),
        "ci": None,
        "trials": pytest.approx([51, 52]),
    }
    assert stored["measured"] == {"all/single": HOW}
    assert stored["published"]["all/single"]["mAP"] == 68.24
    assert stored["provenance"]["versions"] == {"torch": "2.6"}
    assert Results.read(tmp_path).markdown() == results().markdown()
    assert (tmp_path / "results.md").read_text() == results().markdown() + "\n"
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "results.md"}


def test_a_terminal_gets_a_table_and_a_pipe_gets_markdown() -> None:
    for terminal in (True, False):
        out = io.StringIO()
        results().print(Console(file=out, force_terminal=terminal, width=160))
        assert ("─" in out.getvalue()) == terminal
        assert ("50.5±0.7" if terminal else "50.50 ± 0.71") in out.getvalue()
        assert HOW in out.getvalue()
    assert "glasses" not in out.getvalue(), "further tables are for results.md"


def test_a_best_epoch_that_is_the_last_has_no_row_of_its_own() -> None:
    for best, rows in ((3, ["last"]), (2, ["last", "best (selected on held-out training people)"])):
        provenance = {"rows": {"last": {"epoch": 3}, "best": {"epoch": best}}, "validation": "held_out"}
        table = replace(results(), provenance=provenance, published={}).markdown()
        assert [line.split(" | ")[1] for line in table.splitlines()[2:] if "±" in line and "|" in line] == rows


def measured() -> Results:
    embeddings, catalogue = made.small(3)
    scores = evaluate(embeddings, catalogue, SYSUProtocol(trials=3))
    return Results.of({"last": scores, "best": scores}, PAPER, {})


def test_intervals_stand_beside_their_numbers_and_read_back(tmp_path: Path) -> None:
    results = measured()
    value = results.scores["last"]["indoor/multi"]["mAP"]
    low, high = value["ci"]
    assert low < value["mean"] < high
    cell = f"{value['mean']:.2f} ± {value['std']:.2f} ({low:.1f}–{high:.1f})"
    assert cell in results.markdown()
    assert "95 % interval" in results.markdown()
    results.write(tmp_path)
    assert Results.read(tmp_path).markdown() == results.markdown()


def test_the_table_with_intervals_fits_into_a_hundred_columns() -> None:
    out = io.StringIO()
    measured().print(Console(file=out, force_terminal=True, width=100, color_system=None))
    table = out.getvalue().split("all/single: ")[0]
    results = measured().scores["last"]["indoor/single"]
    line = next(line for line in table.splitlines() if line.strip().startswith("indoor/single"))
    for name, value in results.items():
        assert f"{value['mean']:.1f}±{value['std']:.1f}" in line, name
    assert not any("…" in line for line in table.splitlines())


def test_results_of_the_release_before_have_no_intervals_and_are_still_read(tmp_path: Path) -> None:
    results().write(tmp_path)
    path = tmp_path / "results.json"
    stored = json.loads(path.read_text())
    for settings in stored["scores"].values():
        for values in settings.values():
            for value in values.values():
                del value["ci"]
    path.write_text(json.dumps(stored))
    assert Results.read(tmp_path).markdown() == results().markdown()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"scores": 1}', '{"unknown": 1}'])
def test_a_file_that_no_run_wrote_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=r"results\.json cannot be read"):
        Results.read(tmp_path)


def test_a_run_without_results_did_not_end(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did not come to its end"):
        Results.read(tmp_path)
