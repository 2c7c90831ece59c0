"""The vocabulary of the data rooms: a catalogue of images, a dataset's splits, a batch.

A catalogue says of every image who it shows, under which camera, and whether that camera is infrared.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from mpanet_pl.errors import UserError


class Batch(NamedTuple):
    images: Tensor  # (B, 3, H, W): uint8 from the loader, normalised float32 once augmented
    identities: Tensor  # (B,) int64
    cameras: Tensor  # (B,) int64
    infrared: Tensor  # (B,) bool
    index: Tensor  # type: ignore[assignment]  # (B,) int64, rows of the catalogue; hides tuple.index, which no batch needs
    occurrence: Tensor | None = None  # (B,) int64, how often each row came before in the epoch; None: never


COLUMNS = {"identities": torch.int64, "cameras": torch.int64, "infrared": torch.bool, "times": torch.float64}


@dataclass(frozen=True, eq=False)
class Catalogue:
    """N images: paths relative to the dataset's root, and what each shows."""

    paths: tuple[str, ...]
    identities: Tensor  # (N,) int64
    cameras: Tensor  # (N,) int64
    infrared: Tensor  # (N,) bool
    times: Tensor | None = None  # (N,) float64, seconds; nan where it is not known

    def __post_init__(self) -> None:
        for name, dtype in COLUMNS.items():
            column = getattr(self, name)
            if column is None and name == "times":
                continue
            if column.shape != (len(self.paths),) or column.dtype != dtype:
                raise ValueError(
                    f"{name} of a catalogue of {len(self.paths)} images must be {dtype} of shape ({len(self.paths)},), "
                    f"got {column.dtype} {tuple(column.shape)}"
                )

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[str, int, int, bool]]) -> Catalogue:
        """From (path, identity, camera, infrared) rows."""
        paths, identities, cameras, infrared = zip(*rows, strict=True) if rows else ((), (), (), ())
        return cls(
            tuple(paths),
            torch.tensor(identities, dtype=torch.int64),
            torch.tensor(cameras, dtype=torch.int64),
            torch.tensor(infrared, dtype=torch.bool),
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Tensor) -> Catalogue:
        """The catalogue of these rows: a boolean mask (N,) or row numbers."""
        if rows.dtype == torch.bool and rows.shape != (len(self),):
            raise UserError(f"A mask of this catalogue has {len(self)} entries, got {tuple(rows.shape)}")
        numbers = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
        return Catalogue(
            tuple(self.paths[i] for i in numbers.tolist()),
            self.identities[numbers],
            self.cameras[numbers],
            self.infrared[numbers],
            None if self.times is None else self.times[numbers],
        )

    @property
    def num_identities(self) -> int:
        return len(self.identities.unique())


@dataclass(frozen=True, eq=False)
class Splits:
    """What a dataset's folder holds. Training identities are 0 … C-1; test identities keep the dataset's numbers."""

    train: Catalogue
    test: Catalogue
    held_out: Tensor | None = None  # (C,) bool, which training identities validate; None: a quarter, by their folders
    numbers: Tensor | None = None  # (C,) int64, the dataset's own numbers of the training identities

    def hold_out(self) -> tuple[Catalogue, Catalogue]:
        """The training split without the identities who validate, the others again 0 … C-1; and theirs, numbered as
        the dataset does where it says so."""
        held_out = _a_quarter(self.train) if self.held_out is None else self.held_out
        rows = held_out[self.train.identities]  # (N,) bool
        if rows.all() or not rows.any():
            raise UserError(f"{self.train.num_identities} training identities are too few to hold some out")
        kept, val = self.train[~rows], self.train[rows]
        if self.numbers is not None:
            val = replace(val, identities=self.numbers[val.identities])
        return replace(kept, identities=kept.identities.unique(return_inverse=True)[1]), val


def _a_quarter(train: Catalogue) -> Tensor:
    """(C,) bool: as large a share as SYSU-MM01's own validation split, those whose folder's name has the least hash, so
    that it is the same people wherever the dataset lies."""
    folders: dict[int, str] = {}
    for path, identity in zip(train.paths, train.identities.tolist(), strict=True):
        folders.setdefault(identity, PurePosixPath(path).parent.name)
    order = sorted(folders, key=lambda identity: (sha256(os.fsencode(folders[identity])).digest(), identity))
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[order[: max(1, round(len(order) / 4))]] = True
    return chosen


class Dataset(Protocol):
    """A folder on disk that knows how to become splits; `DatasetOnDisk` is the base class for one of your own."""

    root: Path

    def prepare(self) -> None:
        """Make the folder's content where the dataset can be made (the synthetic one); otherwise nothing."""

    def read(self) -> Splits:
        """Read the splits, or raise one `UserError` that lists every structural fault."""
        ...
