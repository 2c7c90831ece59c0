"""Results on disk -> methods to compare: a run, an evaluation, repeats of one, or features that were scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.outcomes import NAMES, RERANKED, by_person
from mpanet_pl.evaluation.pairing import Answers
from mpanet_pl.evaluation.scoring import Scores
from mpanet_pl.evaluation.tables import JSON, Results, Value
from mpanet_pl.features.queries import QUERIES, read_queries
from mpanet_pl.run.finished_run import Run, without_counts
from mpanet_pl.run.repeats import grouped, intervals, spread

if TYPE_CHECKING:
    from mpanet_pl.run.evaluation_inputs import SavedFeatures


@dataclass(frozen=True)
class Method:
    """One thing to compare: a run, or the repeats of one."""

    letter: str  # or another short name
    path: Path
    row: str  # of its results: "last", "best", or the name of a method that has but one
    runs: Sequence[Results]
    answers: Sequence[Mapping[str, Answers]]  # of each run, setting -> queries
    copies: Sequence[str] = ()  # runs that are not counted, in sentences

    @property
    def has_digests(self) -> bool:
        return all(one.met is not None for run in self.answers for one in run.values())

    def value(self, setting: str, score: str) -> Value:
        """Mean over its runs, in percent, with its interval."""
        answers, place = [run[setting] for run in self.answers], NAMES.index(score)
        scores = [100 * float(by_person(of_run.outcomes).sums.sum(0)[place]) for of_run in answers]
        return spread(scores) | {"ci": intervals(answers)[score]}

    @property
    def settings(self) -> list[str]:
        return [name for name in self.answers[0] if all(name in run for run in self.answers)]

    def __str__(self) -> str:
        repeats = f", {len(self.runs)} runs" if len(self.runs) > 1 else ""
        return f"{self.letter} = {self.path} ({self.row}{repeats})"

    def measured(self, setting: str) -> set[str]:
        return {without_counts(results.measured[setting]) for results in self.runs}

    @property
    def ways(self) -> set[str]:
        """How any of its settings was measured."""
        return {way for setting in self.settings for way in self.measured(setting)}


class Reranking(Method):
    """One of several re-rankings, or none, of the same embeddings, whose ways of measuring differ on purpose."""

    def measured(self, setting: str) -> set[str]:
        return set()


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
    return method_of(letter, path, groups[0].runs, result, groups[0].copies)


def method_of(
    letter: str, path: Path, runs: Sequence[Run], result: str | None = None, copies: Sequence[str] = ()
) -> Method:
    """Of runs that repeat one another, by whatever short name."""
    row = _row(path, [run.results for run in runs], result)
    for run in runs:
        if row not in run.answers:
            read_queries(run.folder / QUERIES)  # says what is wrong with it, if anything is
            raise UserError(f"{run.folder / QUERIES} has no queries of the result '{row}'.")
    return Method(letter, path, row, [run.results for run in runs], [run.answers[row] for run in runs], copies)


def method_of_features(
    letter: str, path: Path, row: str, features: SavedFeatures, scores: Mapping[str, Scores]
) -> Method:
    """Of features that were scored just now."""
    answers = {
        setting: Answers(score.outcomes, features.catalogue.paths, features.digest, score.met, features.images)
        for setting, score in scores.items()
        if score.outcomes
    }
    return Method(letter, path, row, [Results.of({row: scores}, {}, {})], [answers])


def _row(path: Path, runs: Sequence[Results], result: str | None) -> str:
    """The result asked for; "last" where there are several; the one there is, however it is called."""
    rows = [row for row in runs[0].scores if all(row in results.scores for results in runs)]
    if result is not None and result not in rows:
        raise UserError(f"{path} has no result '{result}', but {', '.join(rows) or 'none that all its runs have'}.")
    if result is None and "last" not in rows and len(rows) != 1:
        raise UserError(f"{path} has several results: say which, --result {' or '.join(rows)}.")
    return result or ("last" if "last" in rows else rows[0])


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
            method.copies,
        )
        for letter, (name, settings) in zip(ascii_uppercase, sorted(rerankings.items()), strict=False)
    ]
