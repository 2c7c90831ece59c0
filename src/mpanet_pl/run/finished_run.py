"""One run's results read back: what it measured, its queries, and what makes it another experiment than another run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.pairing import Answers
from mpanet_pl.evaluation.tables import Results
from mpanet_pl.features.queries import QUERIES, Queries, read_queries
from mpanet_pl.run.old_names import translated_provenance
from mpanet_pl.system.files import sha256

REPEATED = ("trial", "seed")  # what the runs of one group may differ in
RESOLVED = ("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.precision")
OF_NO_MATTER = (
    *("run_dir", "resume", "logger", "save_features", "data_dir"),
    *("data.workers", "data.cache", "data.eval_batch_size"),
)
LEFT_OUT = re.compile(r"; \d+ of \d+ queries have a true match")


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
        return str(self.provenance.get("dataset"))

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
        return {key: self.provenance.get(key) for key in REPEATED}

    @property
    def date(self) -> str:
        return str(self.provenance.get("date", ""))

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
        return kept | {f"measured.{setting}": without_counts(way) for setting, way in self.results.measured.items()}


def without_counts(measured: str) -> str:
    """How a setting was measured, without how many of its queries have a true match, which differs by trial."""
    return LEFT_OUT.sub("", measured)


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


def flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """
    >>> flat({"model": {"patterns": 6, "stages": ["layer3"]}})
    {'model.patterns': '6', 'model.stages': "['layer3']"}
    """
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: str(tree)}
    return {key: value for name in tree for key, value in flat(tree[name], f"{prefix}.{name}".lstrip(".")).items()}
