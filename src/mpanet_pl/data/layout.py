"""What the datasets on disk share: a root, a cheap reading that tells every fault at once, and rows for catalogues."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

from mpanet_pl.data.catalogue import Catalogue, Splits
from mpanet_pl.data.faults import BrokenDataset, Faults
from mpanet_pl.system.shell import typed

Row = tuple[str, int, int, bool]  # path, identity, camera, infrared


class Counts(NamedTuple):
    """How much a split holds, to compare with what was published."""

    identities: int
    visible: int
    infrared: int

    @classmethod
    def of(cls, catalogue: Catalogue) -> Counts:
        infrared = int(catalogue.infrared.sum())
        return cls(catalogue.num_identities, len(catalogue) - infrared, infrared)

    def __str__(self) -> str:
        return f"{self.identities} identities, {self.visible} visible and {self.infrared} infrared images"


class DatasetOnDisk(ABC):
    """A dataset in its released layout. `read` is cheap: it lists folders and reads split files, but opens no image."""

    name: ClassVar[str]
    config: ClassVar[str]  # what `dataset=` calls it
    published: ClassVar[Mapping[str, Counts]] = {}  # by split

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).expanduser()

    def prepare(self) -> None:  # noqa: B027 - most datasets have nothing to make
        """Nothing: whoever has the dataset put it there."""

    def read(self) -> Splits:
        """The splits, or one `BrokenDataset` with every structural fault."""
        faults = Faults()
        splits = Splits(Catalogue.from_rows([]), Catalogue.from_rows([]))
        if not self.root.is_dir():
            faults.add("missing folders", [self.root])
        else:
            splits = self._read(faults)
            for catalogue in (splits.train, splits.test):
                often = (path for path, count in Counter(catalogue.paths).items() if count > 1)
                faults.add("images listed as visible and as infrared", often)
            if not faults:
                faults.add("splits without images of a modality", _missing_modalities(splits))
        if faults:
            message = f"{self.name} in {self.root} cannot be used:\n{faults}\nThe full check: {self.check_command}"
            raise BrokenDataset(message, faults, splits)
        return splits

    @property
    def check_command(self) -> str:
        return f"python -m mpanet_pl.prepare dataset={self.config} {typed('data_dir', self.root)}"

    @abstractmethod
    def _read(self, faults: Faults) -> Splits:
        """The splits as far as they can be read; what is wrong goes into `faults`."""


def _missing_modalities(splits: Splits) -> Iterator[str]:
    for split, catalogue in (("training", splits.train), ("test", splits.test)):
        _, visible, infrared = Counts.of(catalogue)
        if not visible:
            yield f"no visible {split} image"
        if not infrared:
            yield f"no infrared {split} image"


def relabelled(rows: Iterable[Row]) -> Catalogue:
    """A training catalogue: the identities present become 0 … C−1, in their own order."""
    rows = list(rows)
    label = {identity: number for number, identity in enumerate(sorted({row[1] for row in rows}))}
    return Catalogue.from_rows([(path, label[identity], camera, infrared) for path, identity, camera, infrared in rows])


def person_folders(rows: Iterable[Row]) -> set[int]:
    """The people whose numbered folders the images lie in; folders that are not numbers say nothing.

    >>> person_folders([("Visible/0002/a.bmp", 0, 1, False), ("Thermal/a.bmp", 0, 2, True)])
    {2}
    """
    folders = {PurePosixPath(path).parent.name for path, *_ in rows}
    return {int(folder) for folder in folders if folder.isdecimal()}
