"""The vocabulary of the data rooms: a catalogue of images, a dataset's splits, a batch.

A catalogue says of every image who it shows, under which camera, and whether that camera is infrared; where the dataset
knows more, also when, in which tracklet, on which side of the search, and who that is in the dataset's own words.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from mpanet_pl.errors import UserError


class Batch(NamedTuple):
    """B images and what they show. Of tracklets, T `frames` of each follow one another, and every column repeats."""

    images: Tensor  # (B, 3, H, W): uint8 from the loader, normalised float32 once augmented
    identities: Tensor  # (B,) int64
    cameras: Tensor  # (B,) int64
    infrared: Tensor  # (B,) bool
    index: Tensor  # type: ignore[assignment]  # (B,) int64, rows of the catalogue; hides tuple.index, which no batch needs
    occurrence: Tensor | None = None  # (B,) int64, how often each row came before in the epoch; None: never
    frames: int | None = None  # T; None: no tracklets

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every column changed alike."""
        columns = (None if column is None else change(column) for column in self[:-1])
        return Batch(*columns, frames=self.frames)  # type: ignore[arg-type, misc]

    def a_row_a_track(self) -> Batch:
        """The same images (B·T, …), with one entry (B,) for each tracklet in every other column."""
        return self.each(lambda column: column[:: self.frames])._replace(images=self.images)


COLUMNS = {
    "identities": torch.int64,
    "cameras": torch.int64,
    "infrared": torch.bool,
    "times": torch.float64,
    "tracks": torch.int64,
    "queries": torch.bool,
}
OPTIONAL = {"times", "tracks", "queries"}


@dataclass(frozen=True, eq=False)
class Catalogue:
    """N images: paths relative to the dataset's root, and what each shows."""

    paths: tuple[str, ...]
    identities: Tensor  # (N,) int64
    cameras: Tensor  # (N,) int64
    infrared: Tensor  # (N,) bool
    times: Tensor | None = None  # (N,) float64, seconds; nan where it is not known
    tracks: Tensor | None = None  # (N,) int64, equal for images of one tracklet, in the order of the dataset's list
    queries: Tensor | None = None  # (N,) bool, where the dataset's lists say who is searched for
    sources: tuple[str, ...] | None = None  # N times DATASET/PERSON, the person in that dataset's own words

    def __post_init__(self) -> None:
        if self.sources is not None and len(self.sources) != len(self.paths):
            raise ValueError(f"sources of a catalogue of {len(self.paths)} images are as many, got {len(self.sources)}")
        for name, dtype in COLUMNS.items():
            column = getattr(self, name)
            if column is None and name in OPTIONAL:
                continue
            if column.shape != (len(self.paths),) or column.dtype != dtype:
                raise ValueError(
                    f"{name} of a catalogue of {len(self.paths)} images must be {dtype} of shape ({len(self.paths)},), "
                    f"got {column.dtype} {tuple(column.shape)}"
                )

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[tuple[str, int, int, bool]],
        *,
        tracks: Sequence[int] | None = None,
        queries: Sequence[bool] | None = None,
    ) -> Catalogue:
        """From (path, identity, camera, infrared) rows, and a number for each row's tracklet where there are some."""
        paths, identities, cameras, infrared = zip(*rows, strict=True) if rows else ((), (), (), ())
        return cls(
            tuple(paths),
            torch.tensor(identities, dtype=torch.int64),
            torch.tensor(cameras, dtype=torch.int64),
            torch.tensor(infrared, dtype=torch.bool),
            tracks=None if tracks is None else torch.tensor(tracks, dtype=torch.int64),
            queries=None if queries is None else torch.tensor(queries, dtype=torch.bool),
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Tensor) -> Catalogue:
        """The catalogue of these rows: a boolean mask (N,) or row numbers."""
        if rows.dtype == torch.bool and rows.shape != (len(self),):
            raise UserError(f"A mask of this catalogue has {len(self)} entries, got {tuple(rows.shape)}")
        numbers = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
        chosen = numbers.tolist()
        columns: dict[str, Any] = {name: getattr(self, name) for name in COLUMNS}
        return Catalogue(
            tuple(self.paths[i] for i in chosen),
            sources=None if self.sources is None else tuple(self.sources[i] for i in chosen),
            **{name: column[numbers] for name, column in columns.items() if column is not None},
        )

    @property
    def num_identities(self) -> int:
        return len(self.identities.unique())


class Root(NamedTuple):
    """One of several datasets: its folder, and all its images, of which a run may use some."""

    folder: Path
    paths: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Splits:
    """What a dataset's folder holds. Training identities are 0 … C-1; test identities keep the dataset's numbers."""

    train: Catalogue
    test: Catalogue
    held_out: Tensor | None = None  # (C,) bool, which training identities validate; None: a quarter, by their folders
    numbers: Tensor | None = None  # (C,) int64, the dataset's own numbers of the training identities
    roots: Mapping[str, Root] | None = None  # of several datasets, by the first part of their images' paths

    def file(self, root: Path, path: str) -> Path:
        """Where an image lies, in the folder `root` of its dataset or in that of one of several."""
        if self.roots is None:
            return root / path
        name, _, rest = path.partition("/")
        return self.roots[name].folder / rest

    def validators(self) -> Tensor:
        """(C,) bool: which training identities validate."""
        return _a_quarter(self.train) if self.held_out is None else self.held_out

    def hold_out(self) -> tuple[Catalogue, Catalogue]:
        """The training split without the identities who validate, the others again 0 … C-1; and theirs, numbered as
        the dataset does where it says so."""
        held_out = self.validators()
        rows = held_out[self.train.identities]  # (N,) bool
        if rows.all() or not rows.any():
            raise UserError(f"{self.train.num_identities} training identities are too few to hold some out")
        kept, val = self.train[~rows], self.train[rows]
        if self.numbers is not None:
            val = replace(val, identities=self.numbers[val.identities])
        return renumbered(kept), val


def renumbered(train: Catalogue) -> Catalogue:
    """A training catalogue whose identities are 0 … C-1, in their own order."""
    return replace(train, identities=train.identities.unique(return_inverse=True)[1])


def _a_quarter(train: Catalogue) -> Tensor:
    """(C,) bool: as large a share as SYSU-MM01's own validation split, those whose folder's name (of tracklets: whose
    own name) has the least hash, so that it is the same people wherever the dataset lies."""
    folders: dict[int, str] = {}
    above = 0 if train.tracks is None else 1  # a person's folder holds folders of tracklets
    persons = train.sources if train.tracks is not None and train.sources else None
    names = persons or [PurePosixPath("/", path).parents[above].name for path in train.paths]
    for name, identity in zip(names, train.identities.tolist(), strict=True):
        folders.setdefault(identity, name)
    order = sorted(folders, key=lambda identity: (sha256(os.fsencode(folders[identity])).digest(), identity))
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[order[: max(1, round(len(order) / 4))]] = True
    return chosen


class Dataset(Protocol):
    """A folder on disk that knows how to become splits; `DatasetOnDisk` is the base class for one of your own."""

    root: Path

    def prepare(self) -> Any:  # of None, LightningCLI would ask whether an implementation postpones its annotations
        """Make the folder's content where the dataset can be made (the synthetic one); otherwise nothing."""

    def read(self) -> Splits:
        """Read the splits, or raise one `UserError` that lists every structural fault."""
        ...


def check_labels(train: Catalogue) -> None:
    """Classifiers count identities from 0; a gap would show as an index error in the middle of a step."""
    labels = train.identities.unique()
    if len(labels) and (labels[0] != 0 or labels[-1] != len(labels) - 1):
        raise UserError(
            f"Training identities are numbered 0 … C-1 without a gap, but these {len(labels)} run from {labels[0]} to "
            f"{labels[-1]}: number them anew (mpanet_pl.data.relabelled does)."
        )
