"""A user's own images, a folder for each person:

    visible/<person>/*.jpg, infrared/<person>/*.jpg      a share of the people is held out for the test
    train/… and test/…, each with the two above          or the user says who is held out
    visible/<person>/<tracklet>/*.jpg, likewise          with tracks=true: frames in the order of their numbers

A file name may say its camera as `c<number>_` (`c3_0001.jpg`, `anna_c3_0001.jpg`), counted from 1; otherwise it is
unknown, and written 0. A tracklet's folder may say the camera of its frames. People are numbered in the order of their
names.
"""

import hashlib
import os
import re
from pathlib import PurePosixPath
from typing import Annotated, NamedTuple

from mpanet_pl.data.catalogue import Catalogue, Splits
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.layout import DatasetOnDisk, relabelled
from mpanet_pl.data.listing import images_in, subfolders
from mpanet_pl.system.hints import Range
from mpanet_pl.system.ranges import Seed, checked

MODALITIES = (("visible", False), ("infrared", True))
PartOf = Annotated[float, Range("more than 0 and less than 1", lambda share: 0 < share < 1)]
DEEPER = "folders inside a person's folder, which data.dataset.tracks=true takes for tracklets"
CAMERA_IN_NAME = re.compile(r"(?:^|[^a-z0-9])c(\d{1,18})_", re.IGNORECASE)


class Image(NamedTuple):
    path: str
    person: str
    camera: int
    infrared: bool
    track: str = ""  # the folder of its tracklet


@checked
class Folder(DatasetOnDisk):
    """Who is held out depends on the person's name and `seed` alone, so that adding people moves nobody.

    tracks: each person's folder has a folder a tracklet; `frames` of a tracklet then stand for it.
    """

    config = "folder"
    protocol = "mpanet_pl.evaluation.FolderProtocol"
    chosen_by = ("test_share", "seed")

    def __init__(
        self, root: str | os.PathLike[str], *, test_share: PartOf = 0.5, seed: Seed = 1, tracks: bool = False
    ) -> None:
        super().__init__(root)
        self.test_share = test_share
        self.seed = seed
        self.tracks = tracks
        self.frames = 6 if tracks else None

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
        rows = [[(image.path, number[image.person], *image[2:4]) for image in split] for split in (train, test)]
        tracks = [self._numbered(split) for split in (train, test)]
        return Splits(relabelled(rows[0], tracks=tracks[0]), Catalogue.from_rows(rows[1], tracks=tracks[1]))

    def person(self, path: str) -> str:
        return PurePosixPath(path).parts[-3 if self.tracks else -2]

    def _numbered(self, images: list[Image]) -> list[int] | None:
        """Each image's tracklet, in the order in which they first come."""
        number = {track: place for place, track in enumerate(dict.fromkeys(image.track for image in images))}
        return [number[image.track] for image in images] if self.tracks else None

    def _images(self, split: str, faults: Faults) -> list[Image]:
        folders = [(f"{split}{modality}", infrared) for modality, infrared in MODALITIES]
        faults.add("missing folders", [folder for folder, _ in folders if not (self.root / folder).is_dir()])
        images = []
        for folder, infrared in folders:
            stray = [f"{folder}/{name}" for name in images_in(self.root / folder)]
            faults.add("images that lie in no person's folder", stray)
            for person in subfolders(self.root / folder):
                for place, track in self._places(f"{folder}/{person}", faults):
                    images += [
                        Image(f"{place}/{name}", person, camera_in(track, name), infrared, track)
                        for name in images_in(self.root / place)
                    ]
        order = by_number if self.tracks else str
        return sorted(images, key=lambda image: (*image[1:3], image.track, order(image.path)))

    def _places(self, person: str, faults: Faults) -> list[tuple[str, str]]:
        """The folders that hold a person's images, and the tracklet that each is, if it is one."""
        deeper = [f"{person}/{name}" for name in subfolders(self.root / person)]
        if not self.tracks:
            faults.add(DEEPER, deeper)
            return [(person, "")]
        frames = {track: images_in(self.root / track) for track in deeper}
        cameras = {track: {camera_in(track, name) for name in names} for track, names in frames.items()}
        stray = [f"{person}/{name}" for name in images_in(self.root / person)]
        faults.add("images that lie in no tracklet's folder (data.dataset.tracks=true)", stray)
        faults.add("tracklets without a frame", [track for track, names in frames.items() if not names])
        faults.add("tracklets of several cameras", [track for track in deeper if len(cameras[track]) > 1])
        return [(track, track) for track in deeper]

    def _is_held_out(self, person: str) -> bool:
        draw = hashlib.sha256(os.fsencode(f"{self.seed}/{person}")).digest()
        return int.from_bytes(draw[:8]) < self.test_share * 2**64


def people(images: list[Image]) -> set[str]:
    return {image.person for image in images}


def camera_in(track: str, name: str) -> int:
    """The camera that a tracklet's folder says, or else the frame's own name.

    >>> camera_in("visible/anna/c2", "c3_1.jpg"), camera_in("", "c3_1.jpg")
    (2, 3)
    """
    return camera_of(f"{PurePosixPath(track).name}_") or camera_of(name)


def by_number(path: str) -> list[tuple[int, str]]:
    """A key that puts frame 2 before frame 10.

    >>> sorted(["a/10.jpg", "a/2.jpg"], key=by_number)
    ['a/2.jpg', 'a/10.jpg']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", path)]


def camera_of(name: str) -> int:
    """
    >>> camera_of("c3_0001.jpg"), camera_of("anna_c12_1.png"), camera_of("abc3_1.jpg")
    (3, 12, 0)
    """
    said = CAMERA_IN_NAME.search(name)
    return int(said[1]) if said else 0
