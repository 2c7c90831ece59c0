"""What the datasets on disk share: a root, a cheap reading that tells every fault at once, and rows for catalogues."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import torch

from mpanet_pl.data.catalogue import Catalogue, Splits, renumbered
from mpanet_pl.data.faults import BrokenDataset, Faults
from mpanet_pl.data.listing import images_in, leads_out, subfolders
from mpanet_pl.data.recognition import hints
from mpanet_pl.errors import UserError
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


def unlike_published(dataset: object, split: str, catalogue: Catalogue) -> str:
    """How a split differs from the published ones, in a sentence; empty where nothing is known to differ."""
    found, editions = Counts.of(catalogue), getattr(dataset, "published", {}).get(split, ())
    if not editions or found in editions:
        return ""
    return f"the {split} split has {found}; published are {', or '.join(map(str, editions))}."


class DatasetOnDisk(ABC):
    """The base of a dataset of your own, and of those here: say what it is, and list its images.

        class Corridor(DatasetOnDisk):
            name = "Corridor"
            protocol = "mpanet_pl.evaluation.FolderProtocol"

            def list_splits(self, faults):
                rows = [(f"{person}/{shot}.jpg", person, 1 + shot % 2, shot % 2 == 1) for person in … for shot in …]
                train, test = [row for row in rows if row[1] < 50], [row for row in rows if row[1] >= 50]
                return Splits(relabelled(train), Catalogue.from_rows(test))

    A row is a path under `root`, an identity, a camera (0 where it is unknown), and whether it is infrared. `read` is
    what a run calls: cheap, as no image is opened. A constructor of your own hands `root` on to this one.
    """

    name: ClassVar[str] = "The dataset"  # in a report
    config: ClassVar[str] = ""  # what `dataset=` calls it, if anything
    protocol: ClassVar[str] = ""  # the full name of the class whose `of(dataset)` is how it is measured
    trials: ClassVar[range | None] = None  # the numbers of its trials, where its results are means over such
    chosen_by: ClassVar[tuple[str, ...]] = ()  # the constructor's keywords that decide who is trained on
    published: ClassVar[Mapping[str, Sequence[Counts]]] = {}  # what each split holds, in each of its editions
    terms: ClassVar[str] = "whatever its owner says"  # whose they are, on which conditions
    slices: ClassVar[tuple[str, ...]] = ()  # what its test can be sliced by, of a dataset that is still to be made
    frames: int | None = None  # how many stand for a tracklet; None: it has images, or leaves that to `data.frames`
    one_modality: bool = False  # whether all of its images may be visible ones, or all infrared
    frames_of_others: bool = False  # whether a tracklet may hold frames of another person, modality or camera

    def __init__(self, root: str | os.PathLike[str]) -> None:
        if root is None:
            raise UserError(f"{self.name} has no folder: say data_dir=PATH.")
        self.root = Path(root).expanduser()

    @classmethod
    def trials_of(cls, settings: Mapping[str, Any]) -> range | None:
        """The trials of the dataset that these keywords describe."""
        return cls.trials

    @property
    def source(self) -> str:
        """By which its people are known beside their numbers; empty where the numbers are this folder's alone."""
        return self.config

    def person(self, path: str) -> str:
        """Who an image shows in the dataset's own words, whatever the split: by default its folder's name."""
        return own_number(PurePosixPath(path).parent.name)

    def source_of(self, path: str) -> str:
        """`source/person` of an image; another dataset's, where the image was taken from there."""
        return f"{self.source}/{self.person(path)}"

    @abstractmethod
    def list_splits(self, faults: Faults) -> Splits:
        """The splits as far as they can be read; what is wrong with them goes into `faults`."""

    def prepare(self) -> None:  # noqa: B027 - most datasets have nothing to make
        """Nothing: whoever has the dataset put it there."""

    def warnings(self, splits: Splits, protocol: object = None) -> Iterator[str]:
        """What a user should know of results on these splits by this protocol, though they can be used."""
        for split, catalogue in (("train", splits.train), ("test", splits.test)):
            if len(catalogue) and (unlike := unlike_published(self, split, catalogue)):
                yield unlike

    def oddities(self, splits: Splits) -> Iterator[str]:
        """What is odd about the files, for the card that `prepare` prints."""
        yield from ()

    def read(self) -> Splits:
        """The splits, or one `BrokenDataset` with every structural fault."""
        faults = Faults()
        splits = Splits(Catalogue.from_rows([]), Catalogue.from_rows([]))
        if not self.root.is_dir():
            faults.add("missing folders", [self.root])
        else:
            splits = self._with_sources(self.list_splits(faults))
            for catalogue in (splits.train, splits.test):
                faults.add("paths that lead out of the dataset", (path for path in catalogue.paths if leads_out(path)))
                faults.add("images listed as visible and as infrared", self._contradictions(catalogue))
            if not faults and not self.one_modality:
                faults.add("splits without images of a modality", _missing_modalities(splits))
        if faults:
            full_check = [f"The full check: {self.check_command}"] if self.config else []
            message = "\n".join(
                [f"{self.name} in {self.root} cannot be used:", str(faults), *self.hints(), *full_check]
            )
            raise BrokenDataset(message, faults, splits)
        return splits

    def _contradictions(self, catalogue: Catalogue) -> Iterator[str]:
        listed: Iterable[tuple[str, bool]] = zip(catalogue.paths, catalogue.infrared.tolist(), strict=True)
        if catalogue.tracks is not None:  # a frame may be in two of them
            listed = () if self.frames_of_others else sorted(set(listed))
        return (path for path, count in Counter(path for path, _ in listed).items() if count > 1)

    def _with_sources(self, splits: Splits) -> Splits:
        def sourced(catalogue: Catalogue) -> Catalogue:
            if not self.source or catalogue.sources is not None:
                return catalogue
            return replace(catalogue, sources=tuple(map(self.source_of, catalogue.paths)))

        return replace(splits, train=sourced(splits.train), test=sourced(splits.test))

    def hints(self) -> list[str]:
        """What else may have been meant by the folder."""
        return list(hints(self.root.absolute(), self.config))

    @property
    def check_command(self) -> str:
        return f"python -m mpanet_pl.prepare dataset={self.config} {typed('data_dir', self.root)}"


def _missing_modalities(splits: Splits) -> Iterator[str]:
    for split, catalogue in (("training", splits.train), ("test", splits.test)):
        for modality, count in zip(("visible", "infrared"), Counts.of(catalogue)[1:], strict=True):
            if not count:
                yield f"no {modality} {split} image"


def relabelled(rows: Iterable[Row], **columns: Any) -> Catalogue:
    """A training catalogue: the identities present become 0 … C−1, in their own order."""
    return renumbered(Catalogue.from_rows(list(rows), **columns))


def by_identity(row: Row) -> tuple[int, int, bool, str]:
    """The order of a catalogue's rows: by identity, camera, modality and path."""
    path, identity, camera, infrared = row
    return identity, camera, infrared, path


def rows_under(root: Path, folder: str, identities: set[int], camera: int, infrared: bool) -> Iterator[Row]:
    """The images of these identities in a camera's folder, which has a numbered folder for each person."""
    for person in subfolders(root / folder):
        if person.isdecimal() and int(person) in identities:
            for image in images_in(root / folder / person):
                yield f"{folder}/{person}/{image}", int(person), camera, infrared


def splits_of(rows: Iterable[Row], train: set[int], val: set[int], test: set[int], faults: Faults) -> Splits:
    """The splits by lists of identities; those of `val` are trained on, too, and are held out where some are to be."""
    faults.add("identities in both train and test", sorted((train | val) & test))
    ordered = sorted(rows, key=by_identity)
    present = {row[1] for row in ordered}
    faults.add("identities of a split file without any image", sorted((train | val | test) - present))
    trained = sorted((train | val) & present)  # as `relabelled` orders them
    return Splits(
        relabelled(row for row in ordered if row[1] in train | val),
        Catalogue.from_rows([row for row in ordered if row[1] in test]),
        held_out=torch.tensor([identity in val for identity in trained], dtype=torch.bool) if val else None,
        numbers=torch.tensor(trained, dtype=torch.int64),
    )


def own_number(name: str) -> str:
    """A name as one would say it: numbers without their leading zeros.

    >>> own_number("0012"), own_number("0000"), own_number("anna")
    ('12', '0', 'anna')
    """
    return str(int(name)) if name.isdecimal() else name


def person_folders(rows: Iterable[Row]) -> set[int]:
    """The people whose numbered folders the images lie in; folders that are not numbers say nothing.

    >>> person_folders([("Visible/0002/a.bmp", 0, 1, False), ("Thermal/a.bmp", 0, 2, True)])
    {2}
    """
    folders = {PurePosixPath(path).parent.name for path, *_ in rows}
    return {int(folder) for folder in folders if folder.isdecimal()}
