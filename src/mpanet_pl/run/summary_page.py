"""The page of a folder of runs: a leaderboard by setting, comparisons, and a link to every run's own page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from os.path import relpath
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mpanet_pl.evaluation.tables import COLUMNS as SCORES
from mpanet_pl.evaluation.tables import HEADLINES, PUBLISHED, Grid, published_cells, shown
from mpanet_pl.run.pages import PAGE, Markup, link, pictures, remarks, section, table, write_page
from mpanet_pl.run.run_page import Cost, cost_of, duration

if TYPE_CHECKING:
    from mpanet_pl.run.repeats import Group
    from mpanet_pl.run.summary import Summary

DIFFERENCES = "differences"
HOW_TO_READ = (
    "Each point is a difference to the first, its bar the 95 % interval; a bar that crosses 0 leaves open which finds "
    "more."
)


def write_summary_page(folder: Path, summary: Summary) -> None:
    """index.html beside summary.md."""
    runs = sum(len(group.runs) for group in summary.groups)
    drawn = []
    for number, found in enumerate(summary.comparisons, 1):
        found.draw(folder / f"{DIFFERENCES}_{number}.png")
        drawn.append((folder / f"{DIFFERENCES}_{number}.png", f"Differences to {found.methods[0].letter}", HOW_TO_READ))
    boards = [table(grid) for grid in leaderboards(summary.groups, folder)]
    write_page(
        folder,
        f"{runs} runs of {len(summary.groups)} experiments",
        "best R1 first in each setting; the small line under a score is its 95 % interval",
        [
            section("Leaderboard", *boards, remarks(summary.remarks())),
            section("Differences", pictures(drawn)),
            section("All tables", *map(table, summary.tables(narrow=True))),
        ],
    )


def leaderboards(groups: Sequence[Group], folder: Path) -> Iterator[Grid]:
    """One for each dataset and setting: a row an experiment, by R1 of its last epoch (or of the result it has)."""
    boards: dict[tuple[str, str], list[tuple[float, list[str]]]] = {}
    for group in groups:
        for setting, rows in group.scores.items():
            name = "last" if "last" in rows else next(iter(rows))
            scores: Mapping[str, Mapping[str, Any]] = rows[name]
            cells = [shown(dict(scores[score]), narrow=True) if score in scores else "" for score in HEADLINES]
            row = [_label(group), _seeds(group), *cells, _cost(group), _links(group, folder)]
            boards.setdefault((group.runs[0].kind, setting), []).append((scores["r1"]["mean"], row))
    published = {(group.runs[0].kind, s): of for group in groups for s, of in group.runs[0].results.published.items()}
    for (kind, setting), scored in boards.items():
        ranked = [row for _, row in sorted(scored, key=lambda one: -one[0])]
        if of := published.get((kind, setting)):
            there = dict(zip(SCORES, published_cells(of), strict=True))
            ranked.append([PUBLISHED, "", *(there[name] for name in HEADLINES), "", ""])
        yield [f"{kind}: {setting}", "runs", *(SCORES[name] for name in HEADLINES), "a run's cost", ""], ranked


def _label(group: Group) -> str:
    """What tells it from the others of its dataset; its method where nothing has to."""
    first = group.runs[0]
    return group.name.removeprefix(first.kind).strip() or str(first.config.get("method", first.dataset))


def _seeds(group: Group) -> str:
    """How many runs, and in small lines which seeds and trials."""
    lines = []
    for key in ("seed", "trial"):
        values = list(dict.fromkeys(run.repetition[key] for run in group.runs if run.repetition[key] is not None))
        lines += [f"{key} {', '.join(map(str, values))}"] if values else []
    return "\n".join([str(len(group.runs)), *lines])


def costs(groups: Sequence[Group]) -> Grid | None:
    """What a run of each takes; None where no run says it."""
    header = ["runs", "epochs took", "processor minutes", "weights, millions"]
    rows = []
    for group in groups:
        found, weights = _costs(group), group.runs[0].provenance.get("weights")
        took = duration(fmean(cost.seconds for cost in found)) if found else ""
        processor = fmean(cost.processor for cost in found) / 60 if found else 0
        rows.append(
            [group.name, took, f"{processor:.1f}" if processor else "", f"{weights / 1e6:.2f}" if weights else ""]
        )
    return (header, rows) if any(cell for row in rows for cell in row[1:]) else None


def _costs(group: Group) -> list[Cost]:
    return [cost for run in group.runs if (cost := cost_of(run.folder))]


def _cost(group: Group) -> str:
    costs = _costs(group)
    device = str(group.runs[0].provenance.get("device") or "")
    return "\n".join(filter(None, [duration(fmean(cost.seconds for cost in costs)) if costs else "", device]))


def _links(group: Group, folder: Path) -> Markup:
    """To the page of each run that has one."""
    places = [(relpath(run.folder, folder), (run.folder / PAGE).is_file()) for run in group.runs]
    return Markup("<br>".join(link(f"{place}/{PAGE}", place) if has else escape(place) for place, has in places))
