"""Results of a run: one object behind the table on the screen, `results.md` and `results.json`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.outcomes import NAMES, RANKS
from mpanet_pl.evaluation.published import Published
from mpanet_pl.evaluation.scoring import Scores
from mpanet_pl.system.files import write_json, write_text

JSON = "results.json"
MARKDOWN = "results.md"
COLUMNS = {name: name.upper() if name in RANKS else name for name in NAMES}
HEADLINES = ("r1", "mAP", "mINP")  # where there is room for a few
ORIGIN = ("dataset", "trial", "seed", "overrides", "device", "ranks", "precision", "epochs", "commit", "date")
SELECTED_ON = {"test": "the test set", "held_out": "held-out training people"}
PUBLISHED = "published (MPANet, CVPR 2021)"
TRIALS = "± is the sample standard deviation over trials"
ALIKE = "; it is 0.00 where all trials agree, as they do where every gallery holds the same images"
INTERVALS = "a–b is the 95 % interval over other people like these, whose queries count together"

Value = dict[str, Any]  # in percent: mean, std (None with one trial), trials, and ci (low, high), which 0.1 had not
Grid = tuple[Sequence[str], Sequence[Sequence[str]]]  # header, rows of cells
Rows = Mapping[str, Mapping[str, Mapping[str, Value]]]  # "last" or "best" -> setting -> score -> value


@dataclass(frozen=True)
class Results:
    """What a run measured, how, and where it came from; `of` makes one from scores."""

    scores: Rows
    measured: Mapping[str, str]  # setting -> how
    published: Published
    provenance: Mapping[str, Any]
    nuances: Mapping[str, float] = field(default_factory=dict)  # "measure/nuance" -> percent, of a drawn dataset
    tables: Sequence[Grid] = ()  # further ones, for results.md, and what a reader has to know of them
    table_notes: Sequence[str] = ()
    notes: Sequence[str] = ()
    open_set: Mapping[str, Any] = field(default_factory=dict)  # setting -> shares of searches, where that was asked
    mixed: Mapping[str, Any] = field(default_factory=dict)  # of a gallery of both modalities, likewise
    threshold: Mapping[str, Any] = field(default_factory=dict)  # `open_set.calibrate`'s, for searches

    @classmethod
    def of(
        cls,
        scores: Mapping[str, Mapping[str, Scores]],
        published: Published,
        provenance: Mapping[str, Any],
        *,
        nuances: Mapping[str, float] | None = None,
        tables: Sequence[Grid] = (),
        table_notes: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> Results:
        """From `{"last": {setting: Scores}, "best": …}`."""
        values = {
            row: {setting: score_values(score) for setting, score in settings.items()}
            for row, settings in scores.items()
        }
        measured = {setting: score.measured for settings in scores.values() for setting, score in settings.items()}
        return cls(values, measured, published, provenance, nuances or {}, tables, table_notes, notes)

    @classmethod
    def read(cls, folder: str | Path) -> Results:
        """Read a run's folder back; a file that no run has written is a `UserError`."""
        path = Path(folder) / JSON
        try:
            results = cls(**json.loads(path.read_text(encoding="utf-8")))
            results._check()
            return results
        except FileNotFoundError:
            raise UserError(f"{folder} has no {JSON}: the run did not come to its end") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
            raise UserError(f"{path} cannot be read as a run's results: {fault}") from fault

    def _check(self) -> None:
        """Raise at what is of another shape than `write` gives."""
        for value in self._values():
            low, high = value.get("ci") or (0, 0)
            if not all(isinstance(number, int | float) for number in (value["mean"], low, high)):
                raise TypeError("a score is no number")
        for mapping in (
            self.measured,
            self.published,
            self.provenance,
            self.provenance.get("config", {}),
            self.nuances,
        ):
            mapping.items()

    def write(self, folder: str | Path) -> None:
        write_text(Path(folder) / MARKDOWN, self.markdown())
        write_json(Path(folder) / JSON, asdict(self))

    def print(self, console: Console | None = None, extra: Sequence[str] = ()) -> None:
        """The table of scores and how they were measured, with lines of the caller's own; the rest is in results.md."""
        console = console or Console()
        table = self.scores_table(narrow=console.is_terminal)
        print_tables([table], [*self.how(), *extra, *self.notes], console)

    def markdown(self) -> str:
        remarks = [*self.how(), *self.table_notes, *self.notes, *self._origin()]
        return markdown([self.scores_table(), *self.tables], remarks)

    def label(self, row: str) -> str:
        """A row's name in a table, which says what it was selected on."""
        chosen_on = SELECTED_ON.get(str(self.provenance.get("validation", "test")), "?")
        return f"best (selected on {chosen_on})" if row == "best" else row

    @property
    def monitored(self) -> float | None:
        """What the run was to be judged by, in percent."""
        value = self.provenance.get("monitored")
        return float(value) if isinstance(value, int | float) else None

    def scores_table(self, narrow: bool = False) -> Grid:
        return ["setting", "result", *COLUMNS.values()], self._score_rows(narrow)

    def _score_rows(self, narrow: bool) -> list[list[str]]:
        """A setting's rows below one another: the run's own, then the published one."""
        lines = []
        epochs = {row: of.get("epoch") for row, of in self.provenance.get("rows", {}).items()}
        twice = {"best"} if epochs and epochs.get("best") == epochs.get("last") else set()
        for setting in self.measured:
            own = [
                [self.label(row), *(shown(settings[setting].get(name), narrow=narrow) for name in COLUMNS)]
                for row, settings in self.scores.items()
                if setting in settings and row not in twice
            ]
            if setting in self.published:
                own.append([PUBLISHED, *published_cells(self.published[setting])])
            lines += [["" if i else setting, *cells] for i, cells in enumerate(own)]
        return lines

    def how(self) -> list[str]:
        """How the scores were measured."""
        settings: dict[str, list[str]] = {}
        for setting, way in self.measured.items():
            settings.setdefault(way, []).append(setting)
        ways = [f"{', '.join(measured)}: {way}" for way, measured in settings.items()]
        stds = [value["std"] for value in self._values()]
        notes = [TRIALS + (ALIKE if 0 in stds else "")] if any(std is not None for std in stds) else []
        notes += [INTERVALS] if any(value.get("ci") is not None for value in self._values()) else []
        return ways + notes

    def _origin(self) -> list[str]:
        origin = [f"{key}: {text}" for key in ORIGIN if (text := _brief(self.provenance.get(key)))]
        return ["; ".join(origin)] if origin else []

    def _values(self) -> Iterator[Value]:
        for settings in self.scores.values():
            for scores in settings.values():
                yield from scores.values()


def score_values(score: Scores) -> dict[str, Value]:
    std, ci, trials = score.std, score.ci, score.trials
    return {
        name: {"mean": mean, "std": std[name], "ci": list(ci[name]) if name in ci else None, "trials": trials[name]}
        for name, mean in score.means.items()
    }


def shown(value: Value | None, *, narrow: bool = False) -> str:
    """Mean, spread and interval; `narrow` in two short lines, six of which fit beside one another.

    >>> shown({"mean": 70.581, "std": 0.312, "ci": [66.84, 74.01]})
    '70.58 ± 0.31 (66.8–74.0)'
    >>> shown({"mean": 70.581, "std": 0.312, "ci": [66.84, 74.01]}, narrow=True)
    '70.6±0.3\\n66.8–74.0'
    >>> shown({"mean": 83.7, "std": None}), shown(None)
    ('83.70', '')
    """
    if value is None:
        return ""
    digits = 1 if narrow else 2
    parts = [f"{value['mean']:.{digits}f}"]
    if value["std"] is not None:
        between = "±" if narrow else " ± "
        parts[0] += f"{between}{value['std']:.{digits}f}"
    if value.get("ci"):
        low, high = value["ci"]
        parts.append(f"{low:.1f}–{high:.1f}" if narrow else f"({low:.1f}–{high:.1f})")
    return ("\n" if narrow else " ").join(parts)


def headline(values: Mapping[str, Value] | None) -> str:
    """R1 with its interval, and mAP, where one cell has to do.

    >>> headline({"r1": {"mean": 51.25, "ci": [40.0, 60.04]}, "mAP": {"mean": 47.0}}), headline(None)
    ('51.2 (40.0–60.0) / 47.0', '')
    """
    if values is None:
        return ""
    r1, ends = values["r1"], values["r1"].get("ci")
    between = f" ({ends[0]:.1f}–{ends[1]:.1f})" if ends else ""
    return f"{r1['mean']:.1f}{between} / {values['mAP']['mean']:.1f}"


def published_cells(published: Mapping[str, float]) -> list[str]:
    return [f"{published[name]:.2f}" if name in published else "" for name in COLUMNS]


def print_tables(tables: Sequence[Grid], remarks: Sequence[str], console: Console | None = None) -> None:
    """Tables with the remarks below them; as Markdown where the output is no terminal."""
    console = console or Console()
    if not console.is_terminal:
        console.file.write(markdown(tables, remarks) + "\n")
        return
    for header, rows in tables:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for title in header:
            table.add_column(title, no_wrap=title in ("setting", *COLUMNS.values()))
        for cells in rows:
            table.add_row(*cells)
        console.print(table)
    for line in remarks:
        console.print(line, highlight=False, markup=False)


def markdown(tables: Sequence[Grid], remarks: Sequence[str]) -> str:
    """
    >>> print(markdown([(["setting", "R1"], [["all/single", "70.58"]])], ["ten trials"]))
    | setting | R1 |
    |---|---|
    | all/single | 70.58 |
    <BLANKLINE>
    - ten trials
    """
    parts = ["\n".join([_line(header), "|" + "---|" * len(header), *map(_line, rows)]) for header, rows in tables]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in remarks)]).rstrip()


def as_csv(table: tuple[Sequence[str], Sequence[Sequence[Any]]]) -> str:
    """Text, numbers or None, which is blank.

    >>> as_csv((["setting", "R1"], [["all, single", "70.58"]]))
    'setting,R1\\n"all, single",70.58'
    """
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows([table[0], *table[1]])
    return text.getvalue().rstrip("\n")


def latex(table: Grid) -> str:
    r"""For LaTeX with booktabs.

    >>> print(latex((["setting", "R1"], [["all_single", "70.58 ± 0.31"]])))
    \begin{tabular}{ll}
    \toprule
    setting & R1 \\
    \midrule
    all\_single & 70.58 $\pm$ 0.31 \\
    \bottomrule
    \end{tabular}
    """
    header, *rows = [" & ".join(map(_tex, cells)) + r" \\" for cells in (table[0], *table[1])]
    lines = [rf"\begin{{tabular}}{{{'l' * len(table[0])}}}", r"\toprule", header, r"\midrule", *rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _tex(cell: str) -> str:
    special = {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"±": r"$\pm$", "−": "$-$", "–": "--", "→": r"$\rightarrow$", "\\": r"\textbackslash{}"}
    special |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\n": " "}
    return "".join(special.get(character, character) for character in cell)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _brief(value: Any) -> str:
    """What of the provenance fits a line; the rest is in the JSON."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value) if isinstance(value, str | int | float) else ""
