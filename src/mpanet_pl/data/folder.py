"""A user's own images, a folder for each person:

    visible/<person>/*.jpg, infrared/<person>/*.jpg      a share of the people is held out for the test
    train/… and test/…, each with the two above          or the user says who is held out

A file name may say its camera as `c<number>_` (`c3_0001.jpg`, `anna_c3_0001.jpg`), counted from 1; otherwise it is
unknown, and written 0. People are numbered in the order of their names.
"""

import hashlib
import os
import re
from typing import Annotated, NamedTuple

from mpanet_pl.data.catalogue import Catalogue, Splits
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.layout import DatasetOnDisk, relabelled
from mpanet_pl.data.listing import images_in, subfolders
from mpanet_pl.system.hints import Range
from mpanet_pl.system.ranges import Seed, checked

MODALITIES = (("visible", False), ("infrared", True))
PartOf = Annotated[float, Range("more than 0 and less than 1", lambda share: 0 < share < 1)]
CAMERA_IN_NAME = re.compile(r"(?:^|[^a-z0-9])c(\d{1,18})_", re.IGNORECASE)


class Image(NamedTuple):
    path: str
    person: str
    camera: int
    infrared: bool


@checked
class Folder(DatasetOnDisk):
    """Who is held out depends on the person's name and `seed` alone, so that adding people moves nobody."""

    config = "folder"
    protocol = "mpanet_pl.evaluation.FolderProtocol"
    chosen_by = ("test_share", "seed")

    def __init__(self, root: str | os.PathLike[str], *, test_share: PartOf = 0.5, seed: Seed = 1) -> None:
        super().__init__(root)
        self.test_share = test_share
        self.seed = seed

    @property
    def source(self) -> str:
        return ""  # two folders may each have an Anna

    def list_splits(self, faults: Faults) -> Splits:
        if (self.root / "train").is_dir() or (self.root / "test").is_dir():
            train, test = self._images("train/", faults), self._images("test/", faults)
            faults.add("people in both train and test", sorted(people(train) & people(test)))
        else:
            images = self._images("", faults)
            train = [image for image in images if not self._is_held_out(image.person)]
            test = [image for image in images if self._is_held_out(image.person)]
            if images and not (train and test):
                too_few = "too few people to hold some out by data.dataset.test_share and .seed"
                faults.add(too_few, sorted(people(images)))
        number = {person: number for number, person in enumerate(sorted(people(train) | people(test)), start=1)}
        rows = [
            [(path, number[person], camera, infrared) for path, person, camera, infrared in split]
            for split in (train, test)
        ]
        return Splits(relabelled(rows[0]), Catalogue.from_rows(rows[1]))

    def _images(self, split: str, faults: Faults) -> list[Image]:
        folders = [(f"{split}{modality}", infrared) for modality, infrared in MODALITIES]
        faults.add("missing folders", [folder for folder, _ in folders if not (self.root / folder).is_dir()])
        for folder, _ in folders:
            stray = [f"{folder}/{name}" for name in images_in(self.root / folder)]
            faults.add("images that lie in no person's folder", stray)
            persons = [f"{folder}/{person}" for person in subfolders(self.root / folder)]
            deeper = [f"{person}/{name}" for person in persons for name in subfolders(self.root / person)]
            faults.add("folders inside a person's folder", deeper)
        images = [
            Image(f"{folder}/{person}/{name}", person, camera_of(name), infrared)
            for folder, infrared in folders
            for person in subfolders(self.root / folder)
            for name in images_in(self.root / folder / person)
        ]
        return sorted(images, key=lambda image: (image.person, image.camera, image.path))

    def _is_held_out(self, person: str) -> bool:
        draw = hashlib.sha256(os.fsencode(f"{self.seed}/{person}")).digest()
        return int.from_bytes(draw[:8]) < self.test_share * 2**64


def people(images: list[Image]) -> set[str]:
    return {image.person for image in images}


def camera_of(name: str) -> int:
    """
    >>> camera_of("c3_0001.jpg"), camera_of("anna_c12_1.png"), camera_of("abc3_1.jpg")
    (3, 12, 0)
    """
    said = CAMERA_IN_NAME.search(name)
    return int(said[1]) if said else 0
