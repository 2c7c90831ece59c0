"""`python -m mpanet_pl.summarize`: a folder of runs -> one table, mean ± standard deviation over what was repeated."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.tables import (
    COLUMNS,
    JSON,
    PUBLISHED,
    Grid,
    Results,
    Value,
    as_csv,
    latex,
    markdown,
    print_tables,
    published_cells,
    shown,
)
from mpanet_pl.run.comparison import Comparison, comparison
from mpanet_pl.run.finished_run import Run
from mpanet_pl.run.methods_compared import Method, method_of
from mpanet_pl.run.repeats import Group, grouped
from mpanet_pl.run.run_folder import CONFIG
from mpanet_pl.run.summary_page import costs, write_summary_page
from mpanet_pl.run.sweep_ranking import Ranking, rankings
from mpanet_pl.system.files import write_json, write_text

BESIDE_CHANCE = (
    "nuances: percent; in brackets chance, the same with other images' maps; between siblings chance is 50; hidden: "
    "siblings told apart with the nuance hidden, elsewhere: with as much of the image hidden elsewhere"
)

COMPARED = (
    "−: paired over the same queries, each cell with its own 95 % interval and p; *: p below 0.05 by Holm over a "
    "table; `compare` says it in words"
)
WITH_RUNS = "a–b is the 95 % interval over other people like these and other runs like these"


@dataclass(frozen=True)
class Summary:
    groups: Sequence[Group]
    unfinished: Mapping[str, str]  # folder -> why

    def tables(self, narrow: bool = False) -> list[Grid]:
        header = ["runs", "setting", "result", "n", *COLUMNS.values()]
        scores = (header, [row for group in self.groups for row in _score_rows(group, narrow)])
        nuances = _nuance_tables([group for group in self.groups if group.nuances])
        ranked = [ranking.table() for ranking in self.rankings]
        cost = costs(self.groups)
        return [scores, *ranked, *(found.table() for found in self.comparisons), *([cost] if cost else []), *nuances]

    @cached_property
    def rankings(self) -> list[Ranking]:
        return rankings(self.groups)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Of each kind the groups that can be compared with the first that was run."""
        of_kind: dict[str, list[Method]] = {}
        for group in self.groups:
            with suppress(UserError):  # runs of 0.1 kept no queries
                method = method_of(group.name, Path(group.name), group.runs)
                of_kind.setdefault(group.runs[0].kind, []).append(method)
        found = []
        for first, *others in of_kind.values():
            if comparable := [other for other in others if _comparable(first, other)]:
                found.append(comparison([first, *comparable]))
        return found

    def print(self, console: Console | None = None) -> None:
        console = console or Console()
        print_tables(self.tables(narrow=console.is_terminal), self.remarks(), console)

    def remarks(self) -> list[str]:
        return [
            "± is the sample standard deviation over the n runs, each run being the mean over its protocol's galleries",
            *([WITH_RUNS] if any(value.get("ci") for _, value in self._values()) else []),
            *(ranking.remark() for ranking in self.rankings),
            *([COMPARED] if self.comparisons else []),
            *([BESIDE_CHANCE] if any(group.nuances for group in self.groups) else []),
            *(remark for group in self.groups for remark in group.remarks()),
            *(f"not counted: {why}" for why in self.unfinished.values()),
        ]

    def plain(self) -> dict[str, Any]:
        groups = [
            {
                "name": group.name,
                "runs": [{"folder": str(run.folder), **run.repetition} for run in group.runs],
                "scores": group.scores,
                "nuances": group.nuances,
                "remarks": group.remarks(),
            }
            for group in self.groups
        ]
        ranked = [ranking.plain() for ranking in self.rankings]
        return {"groups": groups, "rankings": ranked, "unfinished": dict(self.unfinished)}

    def write(self, folder: Path) -> None:
        header = ["runs", "setting", "result", "score", "n", "mean", "std", "low", "high"]
        lines = [
            [*place, len(value["runs"]), value["mean"], value["std"], *(value.get("ci") or ("", ""))]
            for place, value in self._values()
        ]
        write_text(folder / "summary.md", markdown(self.tables(), self.remarks()))
        write_text(folder / "summary.tex", "\n\n".join(map(latex, self.tables())))
        write_json(folder / "summary.json", self.plain())
        write_text(folder / "summary.csv", as_csv((header, lines)))
        write_summary_page(folder, self)

    def _values(self) -> Iterator[tuple[tuple[str, str, str, str], Value]]:
        """Every number by its group, setting, result and score."""
        for group in self.groups:
            for setting, rows in [*group.scores.items(), ("nuances", {"last": group.nuances})]:
                for row, scores in rows.items():
                    for name, value in scores.items():
                        yield (group.name, setting, row, name), value


def summarize(folders: Sequence[Path]) -> Summary:
    """Everything that the runs below these folders say together."""
    finished, unfinished = [], {}
    for folder in _run_folders(folders):
        try:
            finished.append(Run(folder, Results.read(folder)))
        except UserError as why:
            unfinished[str(folder)] = f"{why}{_progress(folder)}"
    if not finished:
        listed = "".join(f"\n  {why}" for why in unfinished.values())
        raise UserError(f"No run below {', '.join(map(str, folders))} has results.{listed}")
    return Summary(grouped(finished), unfinished)


def _run_folders(folders: Sequence[Path]) -> list[Path]:
    """Each folder at or below these that holds a run, once, in order of their names."""
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder}")
    files = (file for folder in folders for name in (CONFIG, JSON) for file in folder.rglob(name))
    return sorted({file.parent for file in files if file.parent.name != ".hydra"})


def _progress(folder: Path) -> str:
    """How far an unfinished run came, if it says so."""
    try:
        with (folder / "metrics.csv").open(newline="") as file:
            return f" (it came to epoch {[row['epoch'] for row in csv.DictReader(file)][-1]})"
    except (OSError, ValueError, KeyError, IndexError, csv.Error):  # a file that no run wrote
        return ""


def _comparable(first: Method, other: Method) -> bool:
    try:
        comparison([first, other])
    except UserError:
        return False
    return True


def _score_rows(group: Group, narrow: bool) -> list[list[str]]:
    """A group's settings below one another, the published row under each."""
    lines = []
    for setting, rows in group.scores.items():
        for row, scores in rows.items():
            count = str(len(scores["r1"]["runs"]))
            cells = [shown(scores.get(name), narrow=narrow) for name in COLUMNS]
            lines.append([setting, group.runs[0].results.label(row), count, *cells])
        if published := group.runs[0].results.published.get(setting):
            lines.append([setting, PUBLISHED, "", *published_cells(published)])
    return [
        [group.name if i == 0 else "", cells[0] if i == 0 or cells[0] != lines[i - 1][0] else "", *cells[1:]]
        for i, cells in enumerate(lines)
    ]


def _nuance_tables(groups: Sequence[Group]) -> list[Grid]:
    """Of nuance scores the means over nuances, and the siblings told apart by each; the files hold all of them."""
    keys = list(dict.fromkeys(key for group in groups for key in group.nuances))
    means = {
        key: key.split("/")[0].replace("_", " ")
        for key in keys
        if key.endswith("/mean") and "_chance/" not in key and not key.startswith(("images/", "siblings/"))
    } | {key: "overlap of maps" for key in keys if key == "overlap/cosine"}
    siblings = {key: key.split("/")[1] for key in keys if key.startswith("siblings/")}
    return [
        (
            [first, *titles.values()],
            [[group.name, *(_beside_chance(group.nuances, key) for key in titles)] for group in groups],
        )
        for first, titles in (("runs", means), ("siblings told apart", siblings))
        if titles
    ]


def _beside_chance(scores: Mapping[str, Value], key: str) -> str:
    chance = scores.get(key.replace("/", "_chance/"))
    return shown(scores.get(key)) + (f" ({chance['mean']:.2f})" if chance else "")
