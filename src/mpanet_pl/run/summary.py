"""`python -m mpanet_pl.summarize`: a folder of runs -> one table, mean ± standard deviation over what was repeated."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
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
    latex,
    markdown,
    print_tables,
    published_cells,
    shown,
)
from mpanet_pl.run.compared import Method, method_of
from mpanet_pl.run.comparing import Comparison, comparison
from mpanet_pl.run.repeats import Group, Run, grouped
from mpanet_pl.run.run_folder import CONFIG
from mpanet_pl.run.summary_page import costs, write_summary_page
from mpanet_pl.run.sweep_ranking import rankings
from mpanet_pl.system.files import written_aside

BESIDE_CHANCE = "nuances: percent; in brackets chance, the same with other images' maps; between siblings it is 50"

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
        nuances = _nuance_tables([group for group in self.groups if group.nuances()])
        ranked = [ranking.table() for ranking in rankings(self.groups)]
        cost = costs(self.groups)
        return [scores, *ranked, *(found.table() for found in self.comparisons), *([cost] if cost else []), *nuances]

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
            if alike := [other for other in others if _comparable(first, other)]:
                found.append(comparison([first, *alike]))
        return found

    def print(self, console: Console | None = None) -> None:
        console = console or Console()
        print_tables(self.tables(narrow=console.is_terminal), self.remarks(), console)

    def remarks(self) -> list[str]:
        return [
            "± is the sample standard deviation over the n runs, each run being the mean over its protocol's galleries",
            *([WITH_RUNS] if any(self._has_intervals(group) for group in self.groups) else []),
            *(ranking.remark() for ranking in rankings(self.groups)),
            *([COMPARED] if self.comparisons else []),
            *([BESIDE_CHANCE] if any(group.nuances() for group in self.groups) else []),
            *(remark for group in self.groups for remark in group.remarks()),
            *(f"not counted: {why}" for why in self.unfinished.values()),
        ]

    @staticmethod
    def _has_intervals(group: Group) -> bool:
        return any(
            value["ci"] for rows in group.scores().values() for scores in rows.values() for value in scores.values()
        )

    def plain(self) -> dict[str, Any]:
        groups = [
            {
                "name": group.name,
                "runs": [{"folder": str(run.folder), **run.repetition} for run in group.runs],
                "scores": group.scores(),
                "nuances": group.nuances(),
                "remarks": group.remarks(),
            }
            for group in self.groups
        ]
        ranked = [ranking.plain() for ranking in rankings(self.groups)]
        return {"groups": groups, "rankings": ranked, "unfinished": dict(self.unfinished)}

    def write(self, folder: Path) -> None:
        with written_aside(folder / "summary.md") as aside:
            aside.write_text(markdown(self.tables(), self.remarks()) + "\n", encoding="utf-8")
        with written_aside(folder / "summary.tex") as aside:
            aside.write_text("\n\n".join(map(latex, self.tables())) + "\n", encoding="utf-8")
        with written_aside(folder / "summary.json") as aside:
            aside.write_text(json.dumps(self.plain(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        with written_aside(folder / "summary.csv") as aside, aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["runs", "setting", "result", "score", "n", "mean", "std", "low", "high"])
            writer.writerows(self._values())

        write_summary_page(folder, self)

    def _values(self) -> list[list[Any]]:
        """One line for each number."""
        return [
            [
                group.name,
                setting,
                row,
                name,
                len(value["runs"]),
                value["mean"],
                value["std"],
                *(value.get("ci") or ("", "")),
            ]
            for group in self.groups
            for setting, rows in [*group.scores().items(), ("nuances", {"last": group.nuances()})]
            for row, scores in rows.items()
            for name, value in scores.items()
        ]


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
    for setting, rows in group.scores().items():
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
    measured = {group.name: group.nuances() for group in groups}
    keys = dict.fromkeys(key for scores in measured.values() for key in scores)
    means = {
        key: key.split("/")[0].replace("_", " ") for key in keys if key.endswith("/mean") and "_chance/" not in key
    }
    means = {key: title for key, title in means.items() if not key.startswith(("images/", "siblings/"))}
    means |= {key: "overlap of maps" for key in keys if key == "overlap/cosine"}
    tables: list[Grid] = []
    if means:
        rows = [[name, *(_beside_chance(scores, key) for key in means)] for name, scores in measured.items()]
        tables.append((["runs", *means.values()], rows))
    told = {key: key.split("/")[1] for scores in measured.values() for key in scores if key.startswith("siblings/")}
    if told:
        rows = [[name, *(shown(scores.get(key)) for key in told)] for name, scores in measured.items()]
        tables.append((["siblings told apart", *told.values()], rows))
    return tables


def _beside_chance(scores: Mapping[str, Value], key: str) -> str:
    chance = scores.get(key.replace("/", "_chance/"))
    return shown(scores.get(key)) + (f" ({chance['mean']:.2f})" if chance else "")
