"""Runs that repeat one another: grouped by what they have in common, averaged over trial and seed.

A group is one dataset under one configuration, measured in one way. What is there twice, or is missing, it says.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import torch

from mpanet_pl.data.regdb import TRIALS as REGDB_TRIALS
from mpanet_pl.data.regdb import RegDB
from mpanet_pl.evaluation.differences import interval_over_runs
from mpanet_pl.evaluation.outcomes import NAMES
from mpanet_pl.evaluation.pairing import Answers, same_answers
from mpanet_pl.evaluation.tables import Value
from mpanet_pl.run.finished_run import Run

NAMED = ("name", *(f"{of}{name}" for of in ("", "trained.") for name in ("method", "rung", "experiment")))  # of keys
NO_NAME = "none"
TRIALS = {RegDB.config: REGDB_TRIALS}  # over which results of a dataset are means


@dataclass(frozen=True)
class Group:
    name: str
    runs: Sequence[Run]
    copies: Sequence[str] = ()  # what was left out, in sentences

    @cached_property
    def scores(self) -> dict[str, dict[str, dict[str, Value]]]:
        """Setting -> "last" or "best" -> score -> mean, std, interval and values over the runs that have it."""
        found: dict[str, dict[str, dict[str, Value]]] = defaultdict(dict)
        for row, setting in dict.fromkeys(
            (row, setting) for run in self.runs for row, of in run.results.scores.items() for setting in of
        ):
            having = [run for run in self.runs if setting in run.results.scores.get(row, {})]
            answers = [run.answers[row][setting] for run in having if setting in run.answers.get(row, {})]
            ends = intervals(answers) if len(answers) == len(having) else {}  # runs of 0.1 kept no queries
            of_runs = [run.results.scores[row][setting] for run in having]
            found[setting][row] = {
                name: spread([scores[name]["mean"] for scores in of_runs if name in scores]) | {"ci": ends.get(name)}
                for name in dict.fromkeys(name for scores in of_runs for name in scores)
            }
        return found

    @cached_property
    def nuances(self) -> dict[str, Value]:
        of_runs = [run.results.nuances for run in self.runs]
        names = dict.fromkeys(name for nuances in of_runs for name in nuances)
        return {name: spread([nuances[name] for nuances in of_runs if name in nuances]) for name in names}

    def remarks(self) -> list[str]:
        """What a reader of the means has to know of the runs behind them."""
        found: dict[str, None] = {}  # each once, in order
        for row in dict.fromkeys(row for run in self.runs for row in run.results.scores):
            runs = [run for run in self.runs if row in run.results.scores]
            found |= dict.fromkeys([*_there_twice(runs), *_unbalanced_trials(runs)])
        return [f"{self.name}: {remark}" for remark in [*self.copies, *found]]


def _there_twice(runs: Sequence[Run]) -> Iterator[str]:
    repetitions = [_named(run.repetition) for run in runs]
    for repetition, times in Counter(repetitions).items():
        if times > 1:
            same = (str(run.folder) for run, named in zip(runs, repetitions, strict=True) if named == repetition)
            yield f"{repetition} is there {times} times, and counts each time: {', '.join(same)}"


def _unbalanced_trials(runs: Sequence[Run]) -> Iterator[str]:
    trials = TRIALS.get(runs[0].dataset, ())
    times = Counter(run.repetition["trial"] for run in runs)
    if missing := [str(trial) for trial in trials if trial not in times]:
        yield f"RegDB's results are means over ten trials; missing: {', '.join(missing)}"
    if trials and len(set(times.values())) > 1:
        often = ", ".join(f"{trial} ({count} runs)" for trial, count in times.items() if count > 1)
        yield f"trials do not weigh equally: {often}"


def grouped(runs: Iterable[Run]) -> list[Group]:
    """The groups of each kind in the order they were run in, named by the kind and what tells them apart."""
    of_kind: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.date):
        of_kind[run.kind].append(run)
    groups = []
    for kind, same_kind in of_kind.items():
        members: dict[frozenset[tuple[str, str]], list[Run]] = defaultdict(list)
        for run in same_kind:
            members[frozenset(run.configuration.items())].append(run)
        labels = _labels([its_runs[0].configuration for its_runs in members.values()])
        for label, its_runs in zip(labels, members.values(), strict=True):
            groups.append(Group(" ".join(filter(None, [kind, label])), *_without_copies(its_runs)))
    return groups


def _labels(configurations: Sequence[Mapping[str, str]]) -> list[str]:
    """What tells each from the others: the names of its method, rung and experiment, and the keys in which those differ
    that share these names.

    >>> _labels([{"rung": "full", "a.b": "1", "c": "2"}, {"rung": "baseline", "a.b": "0", "c": "2"}])
    ['full', 'baseline']
    >>> _labels([{"method": "agw", "a.lr": "1"}, {"method": "mpanet", "a.lr": "2"}, {"method": "mpanet", "a.lr": "3"}])
    ['agw', 'mpanet a.lr=2', 'mpanet a.lr=3']
    >>> _labels([{"method": "agw", "a.lr": "1"}, {"method": "agw", "a.lr": "2"}])
    ['a.lr=1', 'a.lr=2']
    """
    names = [name for name in NAMED if len({configuration.get(name) for configuration in configurations}) > 1]
    labels = []
    for configuration in configurations:
        own = [configuration[name] for name in names if configuration.get(name, NO_NAME) not in (NO_NAME, "None")]
        same_names = [other for other in configurations if all(other.get(n) == configuration.get(n) for n in names)]
        telling = [key for key in _telling_keys(same_names) if key in configuration]
        labels.append(" ".join([*own, *(f"{key}={_short(configuration[key])}" for key in telling)]))
    return labels


def _telling_keys(configurations: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys in which they differ; a choice, such as `ckpt`, alone where its value differs in each of them.

    >>> _telling_keys([{"ckpt": "1", "a.b": "1", "c": "2"}, {"ckpt": "2", "a.b": "0", "c": "2"}])
    ['ckpt']
    >>> _telling_keys([{"a.b": "1", "a.c": "1"}, {"a.b": "0", "a.c": "1"}])
    ['a.b']
    """
    keys = sorted(set().union(*configurations))
    values = {key: {configuration.get(key) for configuration in configurations} for key in keys}
    choices = [key for key in keys if "." not in key and len(values[key]) == len(configurations) > 1]
    return choices[:1] or [key for key in keys if len(values[key]) > 1]


def _short(value: str) -> str:
    """
    >>> _short("0.7803250472280205"), _short("3.5e-4"), _short("resnet50")
    ('0.780325', '3.5e-4', 'resnet50')
    """
    return f"{float(value):.6g}" if re.fullmatch(r"-?\d+\.\d{7,}(e-?\d+)?", value) else value


def _without_copies(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Each run once, and a sentence for each copy that is left out: copies of a run do not repeat it."""
    kept: list[Run] = []
    left_out = []
    for run in runs:
        original = next((other for other in kept if _is_copy(run, other)), None)
        if original is None:
            kept.append(run)
        else:
            left_out.append(
                f"{run.folder} is a copy of {original.folder} (one network, or equal outcomes): not counted"
            )
    return kept, left_out


def _is_copy(run: Run, other: Run) -> bool:
    """Whether each row is of the same network, or has equal outcomes, over the same queries."""
    pairs = [
        (answers, other.answers[row][setting])
        for row, settings in run.answers.items()
        for setting, answers in settings.items()
        if setting in other.answers.get(row, {})
    ]
    return bool(pairs) and all(same_answers(one, two) for one, two in pairs)


def intervals(answers: Sequence[Answers]) -> dict[str, list[float]]:
    """Score -> both ends, in percent, of the mean over these runs of one setting."""
    low, high = interval_over_runs(answers)
    return dict(zip(NAMES, (100 * torch.stack([low, high], 1)).tolist(), strict=True))


def spread(values: Sequence[float]) -> Value:
    """
    >>> spread([70.0, 72.0])["mean"], spread([70.0])["std"]
    (71.0, None)
    """
    return {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else None, "runs": list(values)}


def _named(repetition: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in repetition.items())
