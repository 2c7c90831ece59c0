"""A run's record: what was resolved when it ran, kept with its checkpoints and results.

It is what a resumed run, `evaluate`, `summarize` and the table read: a configuration says what was asked for, the
record what came of it.
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from mpanet_pl.errors import UserError
from mpanet_pl.system.cores import usable_cores
from mpanet_pl.system.files import write_json

FILE = "record.json"
LIBRARIES = ("mpanet_pl", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "pillow")
RESOLVED = ("accelerator", "ranks", "precision")  # what makes it another run where it differs


@dataclass(frozen=True, kw_only=True)
class Record:
    dataset: str
    trial: int | None = None  # where the dataset has trials
    seed: int = 1
    accelerator: str = ""
    device: str = ""  # its name
    ranks: int = 1
    precision: str = ""
    epochs: int = 0  # done
    max_epochs: int = 0
    weights: int = 0  # of the network; 0: not known
    loggers: Mapping[str, Any] = field(default_factory=dict)  # by which each knows the run
    changes: tuple[str, ...] = ()  # what became another run while it was continued, in words
    versions: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    date: str = ""

    @classmethod
    def of(cls, trainer: pl.Trainer, network: torch.nn.Module, **of_run: Any) -> Record:
        """Of what `trainer` runs now."""
        weights = sum(weight.numel() for weight in network.parameters())
        record = cls.here(trainer.strategy.root_device, str(trainer.precision), weights=weights, **of_run)
        return replace(record, ranks=trainer.world_size, max_epochs=trainer.max_epochs or 0)

    @classmethod
    def here(cls, device: torch.device, precision: str, **of_run: Any) -> Record:
        """Of this machine and its libraries."""
        return cls(
            accelerator=device.type,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {usable_cores()} cores",
            precision=precision,
            versions={"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
            commit=_commit(),
            date=datetime.now().isoformat(timespec="seconds"),
            **of_run,
        )

    @classmethod
    def read(cls, stored: object, source: str) -> Record:
        """From a file's plain mapping; keys of another release are passed over."""
        known = {item.name for item in fields(cls)}
        try:
            given = {key: value for key, value in dict(stored).items() if key in known}  # type: ignore[call-overload]
            return cls(**given | {"changes": tuple(map(str, given.get("changes", ())))})
        except (TypeError, ValueError) as fault:
            raise UserError(f"{source} is no run's record: {fault}") from fault

    @classmethod
    def in_folder(cls, folder: Path) -> Record | None:
        """That of the run in a folder; None of a run of 0.1, which kept none."""
        try:
            return cls.read(json.loads((folder / FILE).read_text(encoding="utf-8")), str(folder / FILE))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as fault:
            raise UserError(f"{folder / FILE} is damaged: {fault}") from fault

    def following(self, earlier: Record | None) -> Record:
        """This record as the continuation of an earlier one, `changes` saying in what it is another run."""
        if earlier is None:
            return self
        now, before = asdict(self), asdict(earlier)
        differing = [f"{key} {before[key]} → {now[key]}" for key in RESOLVED if before[key] not in ("", now[key])]
        became = [f"after epoch {earlier.epochs}: {', '.join(differing)}"] if differing and earlier.epochs else []
        return replace(self, changes=tuple(dict.fromkeys([*earlier.changes, *self.changes, *became])))

    def plain(self) -> dict[str, Any]:
        return asdict(self) | {"changes": list(self.changes)}

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, self.plain())

    @property
    def ended(self) -> str:
        """What a reader has to know of where it ended; nothing of a run that did what was asked for."""
        if self.epochs >= self.max_epochs:
            return ""
        return f"ended after epoch {self.epochs} of {self.max_epochs}"


def _commit() -> str | None:
    """The checkout's commit, marked where files differ from it; None outside a checkout, or in somebody else's."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None
