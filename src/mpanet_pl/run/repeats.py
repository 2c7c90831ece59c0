"""Runs that repeat one another: grouped by what they have in common, averaged over trial and seed.

A group is one dataset under one configuration, measured in one way. What is there twice, or is missing, it says.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mpanet_pl.evaluation.tables import Results, Value
from mpanet_pl.run.old_names import translated_provenance

REPEATED = ("trial", "seed")  # what the runs of one group may differ in
OF_NO_MATTER = ("run_dir", "resume", "logger", "save_features", "data.workers", "data.cache", "data.eval_batch_size")
REGDB_TRIALS = range(1, 11)


@dataclass(frozen=True)
class Run:
    folder: Path
    results: Results

    @property
    def config(self) -> Mapping[str, Any]:
        return self.provenance.get("config", {})

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        return translated_provenance(self.results.provenance)

    @property
    def dataset(self) -> str:
        return str(self.results.provenance.get("dataset"))

    @property
    def kind(self) -> str:
        """Only runs of one kind have the same keys, to be compared one by one."""
        return f"{self.dataset} (evaluated)" if "ckpt" in self.config else self.dataset

    @property
    def repetition(self) -> dict[str, Any]:
        """Its trial and its seed."""
        return {key: self.results.provenance.get(key) for key in REPEATED}

    @property
    def date(self) -> str:
        return str(self.results.provenance.get("date", ""))

    @property
    def configuration(self) -> dict[str, str]:
        """Dotted key -> value of all that makes it another experiment; how it was measured is part of that."""
        config = dict(self.config)
        if trained := self.provenance.get("trained"):
            for key in ("ckpt", "features"):  # the run that it came from counts, not its file
                config.pop(key, None)
        kept = _of_matter(flat(config))
        kept |= {f"trained.{key}": value for key, value in _of_matter(flat(trained or {})).items()}
        return kept | {f"measured.{setting}": way for setting, way in self.results.measured.items()}


@dataclass(frozen=True)
class Group:
    name: str
    runs: Sequence[Run]

    def scores(self) -> dict[str, dict[str, dict[str, Value]]]:
        """Setting -> "last" or "best" -> score -> mean, std and values over the runs that have it."""
        values: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for run in self.runs:
            for row, settings in run.results.scores.items():
                for setting, scores in settings.items():
                    for name, value in scores.items():
                        values[setting][row][name].append(value["mean"])
        return {
            setting: {row: {name: spread(v) for name, v in scores.items()} for row, scores in rows.items()}
            for setting, rows in values.items()
        }

    def nuances(self) -> dict[str, Value]:
        values: dict[str, list[float]] = defaultdict(list)
        for run in self.runs:
            for name, value in run.results.nuances.items():
                values[name].append(value)
        return {name: spread(numbers) for name, numbers in values.items()}

    def remarks(self) -> list[str]:
        """What a reader of the means has to know of the runs behind them."""
        found = []
        repetitions = [_named(run.repetition) for run in self.runs]
        for repetition, times in Counter(repetitions).items():
            if times > 1:
                same = (
                    str(run.folder) for run, named in zip(self.runs, repetitions, strict=True) if named == repetition
                )
                found.append(f"{repetition} is there {times} times, and counts each time: {', '.join(same)}")
        if self.runs[0].dataset == "regdb":
            found += self._unbalanced_trials()
        return [f"{self.name}: {remark}" for remark in found]

    def _unbalanced_trials(self) -> list[str]:
        times = Counter(run.repetition["trial"] for run in self.runs)
        found = []
        if missing := [str(trial) for trial in REGDB_TRIALS if trial not in times]:
            found.append(f"RegDB's results are means over ten trials; missing: {', '.join(missing)}")
        if len(set(times.values())) > 1:
            often = ", ".join(f"{trial} ({count} runs)" for trial, count in times.items() if count > 1)
            found.append(f"trials do not weigh equally: {often}")
        return found


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
        telling = _telling_keys([its_runs[0].configuration for its_runs in members.values()])
        for its_runs in members.values():
            configuration = its_runs[0].configuration
            own = (f"{key}={configuration[key]}" for key in telling if key in configuration)
            groups.append(Group(" ".join([kind, *own]), its_runs))
    return groups


def _telling_keys(configurations: Sequence[Mapping[str, str]]) -> list[str]:
    """The keys in which they differ; a named choice, such as `rung`, alone where its value differs in each of them.

    >>> _telling_keys([{"rung": "full", "a.b": "1", "c": "2"}, {"rung": "baseline", "a.b": "0", "c": "2"}])
    ['rung']
    >>> _telling_keys([{"a.b": "1", "a.c": "1"}, {"a.b": "0", "a.c": "1"}])
    ['a.b']
    """
    keys = sorted(set().union(*configurations))
    values = {key: {configuration.get(key) for configuration in configurations} for key in keys}
    choices = [key for key in keys if "." not in key and len(values[key]) == len(configurations) > 1]
    return choices[:1] or [key for key in keys if len(values[key]) > 1]


def _of_matter(configuration: Mapping[str, str]) -> dict[str, str]:
    """
    >>> _of_matter({"seed": "2", "data.workers": "4", "data.seed": "1", "logger.offline": "True"})
    {'data.seed': '1'}
    """
    without = (*REPEATED, *OF_NO_MATTER)
    return {
        key: value
        for key, value in configuration.items()
        if not f"{key}.".startswith(tuple(f"{name}." for name in without))
    }


def spread(values: Sequence[float]) -> Value:
    """
    >>> spread([70.0, 72.0])["mean"], spread([70.0])["std"]
    (71.0, None)
    """
    return {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else None, "runs": list(values)}


def flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """
    >>> flat({"model": {"patterns": 6, "stages": ["layer3"]}})
    {'model.patterns': '6', 'model.stages': "['layer3']"}
    """
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: str(tree)}
    return {key: value for name in tree for key, value in flat(tree[name], f"{prefix}.{name}".lstrip(".")).items()}


def _named(repetition: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in repetition.items())
