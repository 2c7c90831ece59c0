"""Results of several methods -> how much more each finds than the first, and what these people can tell of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from string import ascii_uppercase

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.differences import Answers, Difference, compare, holm
from mpanet_pl.evaluation.outcomes import NAMES, RERANKED
from mpanet_pl.evaluation.tables import COLUMNS, HEADLINES, JSON, Grid, Results, markdown
from mpanet_pl.features import holds_features
from mpanet_pl.features.queries import QUERIES, read_queries
from mpanet_pl.run.repeats import LEFT_OUT, Run, grouped
from mpanet_pl.system.files import written_aside

LIKELY = 0.05


@dataclass(frozen=True)
class Method:
    """One thing to compare: a run, or the repeats of one."""

    letter: str  # or another short name
    path: Path
    row: str  # of its results: "last", "best", or the name of a method that has but one
    runs: Sequence[Results]
    answers: Sequence[Mapping[str, Answers]]  # of each run, setting -> queries

    @property
    def settings(self) -> list[str]:
        return [name for name in self.answers[0] if all(name in run for run in self.answers)]

    def __str__(self) -> str:
        repeats = f", {len(self.runs)} runs" if len(self.runs) > 1 else ""
        return f"{self.letter} = {self.path} ({self.row}{repeats})"

    def measured(self, setting: str) -> set[str]:
        return {LEFT_OUT.sub("", results.measured[setting]) for results in self.runs}


class Reranking(Method):
    """One of several re-rankings, or none, of the same embeddings: they are alike but for that."""

    def measured(self, setting: str) -> set[str]:
        return set()


@dataclass(frozen=True)
class Told:
    """What is told of one score: percentage points that `method` finds more than the first."""

    method: str
    setting: str
    score: str
    difference: float
    ci: tuple[float, float]
    p: float
    adjusted: float  # by Holm, over the methods and settings of this score
    people: int

    @property
    def sentence(self) -> str:
        low, high = self.ci
        what = f"{self.setting}, {COLUMNS[self.score]}"
        if self.adjusted > LIKELY:
            return (
                f"{what}: no difference can be told with these {self.people} people "
                f"({self.method} − A: {_between(low, high)}; p {_chance(self.adjusted)})."
            )
        more = "more" if self.difference > 0 else "fewer"
        near, far = (low, high) if self.difference > 0 else (-high, -low)
        return (
            f"{what}: {self.method} finds {abs(self.difference):.1f} points {more} than A "
            f"({near:.1f} to {far:.1f}; p {_chance(self.adjusted)})."
        )

    @property
    def cell(self) -> str:
        return f"{self.difference:+.1f} ({_between(*self.ci)}), p {_chance(self.adjusted)}"


@dataclass(frozen=True)
class Comparison:
    methods: Sequence[Method]
    told: Sequence[Told]
    left_out: Sequence[str]  # settings that not all of them have

    def table(self) -> Grid:
        header = [
            "setting",
            f"more than {self.methods[0].letter}",
            *(f"{COLUMNS[name]} (95 %), p" for name in HEADLINES),
        ]
        rows: dict[tuple[str, str], list[str]] = {}
        for one in self.told:
            if one.score in HEADLINES:
                rows.setdefault((one.setting, one.method), []).append(one.cell)
        return header, [[*names, *cells] for names, cells in rows.items()]

    def remarks(self) -> list[str]:
        several = sum(one.score == "r1" for one in self.told)
        adjusted = [f"p: adjusted by Holm for {several} comparisons of each score"] if several > 1 else []
        repeats = [
            "intervals and p are of both levels, people and runs"
            if any(len(method.runs) > 1 for method in self.methods)
            else "one run each: how far other runs of the same would lie is not in these intervals"
        ]
        missing = [f"not compared, for not all have it: {', '.join(self.left_out)}"] if self.left_out else []
        return [*map(str, self.methods), *self.sentences(), *adjusted, *repeats, *missing]

    def sentences(self) -> list[str]:
        return [one.sentence for one in self.told if one.score in ("r1", "mAP")]

    def write(self, folder: Path) -> None:
        from mpanet_pl.run.pictures import draw_differences

        methods = {m.letter: {"path": str(m.path), "result": m.row, "runs": len(m.runs)} for m in self.methods}
        plain = {"methods": methods, "differences": [asdict(one) for one in self.told]}
        with written_aside(folder / "comparison.json") as aside:
            aside.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        with written_aside(folder / "comparison.md") as aside:
            aside.write_text(markdown([self.table()], self.remarks()) + "\n", encoding="utf-8")
        rows: dict[str, dict[str, tuple[float, float, float]]] = {}
        for one in self.told:
            if one.score in ("r1", "mAP"):
                label = f"{one.setting.replace('_', ' ')}, {one.method} − A"
                rows.setdefault(label, {})[COLUMNS[one.score]] = (one.difference, *one.ci)
        draw_differences(rows, folder / "comparison.png")


def compare_methods(
    paths: Sequence[Path], result: str | None = None, measured: Callable[[Path], Path] | None = None
) -> Comparison:
    """Everything after the first path against the first, or of one path what is re-ranked against what is not.

    `measured` takes features to where their results are.
    """
    if len(paths) == 1 and not holds_features(*paths):
        return comparison(with_and_without(read_method("A", paths[0], result)))
    if len(paths) < 2:
        raise UserError("Name two results or more to compare: runs, evaluations, or folders of repeated runs.")
    if len(paths) > len(ascii_uppercase):
        raise UserError(f"{len(paths)} results are more than there are letters for them: compare fewer at once.")
    methods = []
    for letter, path in zip(ascii_uppercase, paths, strict=False):
        place = measured(path) if measured and path.name != QUERIES and holds_features(path) else path
        methods.append(replace(read_method(letter, place, result), path=path))
    return comparison(methods)


def with_and_without(method: Method) -> list[Method]:
    """Its plain settings as one method, and each re-ranking of them as another."""
    rerankings: dict[str, dict[str, str]] = {}  # name -> plain setting -> re-ranked one
    for setting in method.settings:
        plain, _, name = setting.partition(RERANKED)
        rerankings.setdefault(name, {})[plain] = setting
    if len(rerankings) < 2:
        raise UserError(
            f"{method.path} has no results with and without re-ranking to compare. Name two results or more: runs, "
            "evaluations, or folders of repeated runs."
        )
    return [
        Reranking(
            letter,
            method.path,
            f"{method.row}{RERANKED * bool(name)}{name}",
            method.runs,
            [{plain: run[setting] for plain, setting in settings.items()} for run in method.answers],
        )
        for letter, (name, settings) in zip(ascii_uppercase, sorted(rerankings.items()), strict=False)
    ]


def comparison(methods: Sequence[Method]) -> Comparison:
    first, *others = methods
    settings = [name for name in first.settings if all(name in method.settings for method in others)]
    known = dict.fromkeys(name for method in methods for name in method.settings)
    if not settings:
        listed = "; ".join(f"{method.letter}: {', '.join(method.settings)}" for method in methods)
        raise UserError(f"They have no setting in common, so another protocol measured each ({listed}).")
    found = []
    for setting in settings:
        for method in others:
            _check_alike(first, method, setting)
            try:
                difference = compare(*([run[setting] for run in one.answers] for one in (first, method)))
            except UserError as why:
                raise UserError(f"{first.path} and {method.path} cannot be compared in {setting}. {why}") from why
            found.append((method.letter, setting, difference))
    return Comparison(methods, list(_told(found)), [name for name in known if name not in settings])


def read_method(letter: str, path: Path, result: str | None) -> Method:
    """A run's folder or one of its files, or a folder of runs that repeat one another."""
    if path.is_file() and path.name not in (JSON, QUERIES):
        raise UserError(
            f"{path} is no run's results. A checkpoint is measured first: "
            "python -m mpanet_pl.evaluate ckpt=… run_dir=…, whose folder can be compared."
        )
    folder = path.parent if path.is_file() else path
    folders = [folder] if (folder / JSON).exists() else sorted({file.parent for file in folder.rglob(JSON)})
    if not folders:
        raise UserError(f"{path} has no {JSON}, nor has a folder below it: no run came to its end there.")
    runs = [Run(one, Results.read(one)) for one in folders]
    if len(groups := grouped(runs)) > 1:
        listed = "".join(f"\n  {group.name}: {', '.join(str(run.folder) for run in group.runs)}" for group in groups)
        raise UserError(f"{path} holds runs that do not repeat one another. Name one of these:{listed}")
    return method_of(letter, path, runs, result)


def method_of(letter: str, path: Path, runs: Sequence[Run], result: str | None = None) -> Method:
    """Of runs that repeat one another, by whatever short name."""
    row = _row(path, [run.results for run in runs], result)
    answers = []
    for run in runs:
        rows, paths = read_queries(run.folder / QUERIES)
        if row not in rows:
            raise UserError(f"{run.folder / QUERIES} has no queries of the result '{row}'.")
        answers.append({setting: Answers(outcomes, paths, run.network(row)) for setting, outcomes in rows[row].items()})
    return Method(letter, path, row, [run.results for run in runs], answers)


def _row(path: Path, runs: Sequence[Results], result: str | None) -> str:
    """The result asked for; "last" where there are several; the one there is, however it is called."""
    rows = [row for row in runs[0].scores if all(row in results.scores for results in runs)]
    if result is not None and result not in rows:
        raise UserError(f"{path} has no result '{result}', but {', '.join(rows) or 'none that all its runs have'}.")
    if result is None and "last" not in rows and len(rows) != 1:
        raise UserError(f"{path} has several results: say which, --result {' or '.join(rows)}.")
    return result or ("last" if "last" in rows else rows[0])


def _check_alike(first: Method, other: Method, setting: str) -> None:
    ways = first.measured(setting) | other.measured(setting)
    if len(ways) > 1:
        parts = [way.split("; ") for way in (min(first.measured(setting)), min(other.measured(setting)))]
        apart = [[part for part in ours if part not in theirs] for ours, theirs in (parts, parts[::-1])]
        differ = "; ".join(
            f"{method.letter}: {', '.join(own)}" for method, own in zip((first, other), apart, strict=True)
        )
        raise UserError(
            f"{first.path} and {other.path} were measured in two ways, and cannot be compared in {setting}. "
            f"{differ or 'Runs of one method differ among themselves.'}"
        )


def _told(found: Sequence[tuple[str, str, Difference]]) -> Iterator[Told]:
    for place, name in enumerate(NAMES):
        adjusted = holm([float(difference.p[place]) for _, _, difference in found])
        for (method, setting, difference), likely in zip(found, adjusted, strict=True):
            mean, low, high, p = (float(column[place]) for column in difference[:4])
            yield Told(method, setting, name, mean, (low, high), p, likely, difference.people)


def _between(low: float, high: float) -> str:
    return f"{low:+.1f} to {high:+.1f}"


def _chance(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
