"""Runs that repeat one another: grouped by what they have in common, averaged over trial and seed.

A group is one dataset under one configuration, measured in one way. What is there twice, or is missing, it says.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mpanet_pl.data.regdb import TRIALS as REGDB_TRIALS
from mpanet_pl.data.regdb import RegDB
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.differences import interval_over_runs
from mpanet_pl.evaluation.outcomes import NAMES
from mpanet_pl.evaluation.pairing import Answers
from mpanet_pl.evaluation.tables import Results, Value
from mpanet_pl.features.queries import QUERIES, Queries, read_queries
from mpanet_pl.run.copied_runs import without_copies
from mpanet_pl.run.old_names import translated_provenance
from mpanet_pl.system.files import sha256

REPEATED = ("trial", "seed")  # what the runs of one group may differ in
RESOLVED = ("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.precision")
OF_NO_MATTER = (
    *("run_dir", "resume", "logger", "save_features", "data_dir"),
    *("data.workers", "data.cache", "data.eval_batch_size"),
)
NAMED = ("name", *(f"{of}{name}" for of in ("", "trained.") for name in ("method", "rung", "experiment")))  # of keys
NO_NAME = "none"
LEFT_OUT = re.compile(r"; \d+ of \d+ queries have a true match")
TRIALS = {RegDB.config: REGDB_TRIALS}  # over which results of a dataset are means


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
    def ran(self) -> dict[str, str]:
        """What it was resolved to: where it ran, in what precision, by which release. A run of 0.1 says less of it."""
        origin = self.provenance
        ranks, _, name = str(origin.get("device", "")).rpartition(" × ")
        kind = "cpu" if name.startswith("CPU") else "cuda" if name else ""
        return {
            "accelerator": str(origin.get("accelerator") or kind),
            "ranks": str(origin.get("ranks") or ranks or 1),
            "precision": str(origin.get("precision", "")),
            "mpanet_pl": str((origin.get("versions") or {}).get("mpanet_pl", "")),
            "changes": "; ".join(map(str, origin.get("changes") or ())),
        }

    @cached_property
    def queries(self) -> Queries | None:
        """None of a run of 0.1, which kept none."""
        try:
            return read_queries(self.folder / QUERIES)
        except UserError:
            return None

    @cached_property
    def answers(self) -> dict[str, dict[str, Answers]]:
        """Row of the results -> setting -> queries."""
        if self.queries is None:
            return {}
        rows, paths, met, _, images = self.queries
        return {
            row: {
                setting: Answers(outcomes, paths, self.network(row), met.get(row, {}).get(setting), images)
                for setting, outcomes in settings.items()
            }
            for row, settings in rows.items()
        }

    def network(self, row: str) -> str:
        """The digest of a row's network; of an earlier release its checkpoint's, or where that would lie."""
        if self.queries and row in self.queries.networks:
            return self.queries.networks[row]
        kept = self.folder / "checkpoints" / f"{row}.ckpt"
        return str(self.provenance.get("network") or (sha256(kept) if kept.is_file() else kept.absolute()))

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
        config, trained = flat(self.config), self.provenance.get("trained")
        if trained:
            for key in ("ckpt", "features"):  # the run that it came from counts, not its file
                config.pop(key, None)
        kept = _of_matter({key: value for key, value in config.items() if key not in RESOLVED}, self.config)
        kept |= {f"trained.{key}": value for key, value in _of_matter(flat(trained or {}), trained or {}).items()}
        kept |= {f"ran.{key}": value for key, value in self.ran.items()}
        ways = {setting: LEFT_OUT.sub("", way) for setting, way in self.results.measured.items()}
        return kept | {f"measured.{setting}": way for setting, way in ways.items()}


@dataclass(frozen=True)
class Group:
    name: str
    runs: Sequence[Run]
    copies: Sequence[str] = ()  # what was left out, in sentences

    def scores(self) -> dict[str, dict[str, dict[str, Value]]]:
        """Setting -> "last" or "best" -> score -> mean, std, interval and values over the runs that have it."""
        values: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for run in self.runs:
            for row, settings in run.results.scores.items():
                for setting, scores in settings.items():
                    for name, value in scores.items():
                        values[setting][row][name].append(value["mean"])
        return {
            setting: {
                row: {name: spread(v) | {"ci": self._interval(row, setting, name)} for name, v in scores.items()}
                for row, scores in rows.items()
            }
            for setting, rows in values.items()
        }

    def _interval(self, row: str, setting: str, name: str) -> list[float] | None:
        return self._intervals.get((row, setting), {}).get(name)

    @cached_property
    def _intervals(self) -> dict[tuple[str, str], dict[str, list[float]]]:
        """Of every row and setting of which each run that has it kept its queries."""
        found = {}
        for row, setting in dict.fromkeys(
            (r, s) for run in self.runs for r, of in run.results.scores.items() for s in of
        ):
            having = [run for run in self.runs if setting in run.results.scores.get(row, {})]
            answers = [run.answers[row][setting] for run in having if setting in run.answers.get(row, {})]
            if len(answers) == len(having):
                low, high = interval_over_runs(answers)
                ends = zip((100 * low).tolist(), (100 * high).tolist(), strict=True)
                found[row, setting] = dict(zip(NAMES, map(list, ends), strict=True))
        return found

    def nuances(self) -> dict[str, Value]:
        values: dict[str, list[float]] = defaultdict(list)
        for run in self.runs:
            for name, value in run.results.nuances.items():
                values[name].append(value)
        return {name: spread(numbers) for name, numbers in values.items()}

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
            groups.append(Group(" ".join(filter(None, [kind, label])), *without_copies(its_runs)))
    return groups


def _labels(configurations: Sequence[Mapping[str, str]]) -> list[str]:
    """What tells each from the others: the names of its method, rung and experiment, and the keys in which those differ
    that share these names.

    >>> _labels([{"rung": "full", "a.b": "1", "c": "2"}, {"rung": "baseline", "a.b": "0", "c": "2"}])
    ['full', 'baseline']
    >>> _labels([{"method": "agw", "a.lr": "1"}, {"method": "mpanet", "a.lr": "2"}, {"method": "mpanet", "a.lr": "3"}])
    ['agw', 'mpanet a.lr=2', 'mpanet a.lr=3']
    """
    names = [name for name in NAMED if len({configuration.get(name) for configuration in configurations}) > 1]
    labels = []
    for configuration in configurations:
        own = [configuration[name] for name in names if configuration.get(name, NO_NAME) not in (NO_NAME, "None")]
        alike = [other for other in configurations if all(other.get(n) == configuration.get(n) for n in names)]
        telling = [key for key in _telling_keys(alike) if key in configuration]
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


def _of_matter(configuration: Mapping[str, str], composed: Mapping[str, Any]) -> dict[str, str]:
    """
    >>> of_a_run = {"seed": "2", "data.workers": "4", "data.root": "/data/sysu", "data.seed": "1"}
    >>> _of_matter(of_a_run, {"data_dir": "/data/sysu"})
    {'data.root': 'DATA', 'data.seed': '1'}
    """
    without = (*REPEATED, *OF_NO_MATTER)
    mounted = str(composed.get("data_dir") or "")
    return {
        key: value.replace(mounted, "DATA") if mounted else value  # one dataset under two mount points
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
