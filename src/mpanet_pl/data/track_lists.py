"""Tracklets listed as MARS lists them (Zheng et al., ECCV 2016); HITSZ-VCM (Lin et al., CVPR 2022) in its layouts.

{train,test}_name.txt         an image's name a line
track_{train,test}_info.txt   a tracklet a line: modality, first and last line of its names, identity, camera
query_IDX.txt                 which lines of track_test_info are searched for
                              the three in info/ or at the root; the last two may be MATLAB's, as MARS has them
0001M2D3T1F1.jpg              a name: identity, modality (1 infrared, 2 visible), camera, tracklet, frame; it lies in
Train/0001/rgb/D3/1.jpg       or Test/…, or data/…, or at the root
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from mpanet_pl.data.catalogue import Catalogue, Splits, renumbered
from mpanet_pl.data.faults import Faults, listed
from mpanet_pl.data.layout import Counts, DatasetOnDisk, own_number
from mpanet_pl.data.listing import missing_files, read_table, read_text, subfolders
from mpanet_pl.data.tracklets import without_short
from mpanet_pl.errors import UserError
from mpanet_pl.system.ranges import checked

COLUMNS = ("modality", "first", "last", "identity", "camera", "other")
INFOS = ("info", "mevid-v1-annotation-data", "")  # where lists lie
SPLITS = ("train", "test")
VCM_NAME = r"(?P<identity>\d+)M(?P<modality>[12])D(?P<camera>\d+)T(?P<track>\d+)F(?P<frame>.+)"
VCM_PATH = "{identity}/{modality}/D{camera}/{frame}"


class Track(NamedTuple):
    modality: int  # 1 infrared, 2 visible
    first: int  # of the names, from 0
    last: int  # inclusive
    identity: int
    camera: int
    line: int  # of the list, from 0


@checked
class TrackLists(DatasetOnDisk):
    """A dataset in MARS' format; MARS itself and MEVID are other columns, names and paths.

    Args:
        called: the dataset's name: of its people's sources, and in its table of terms.
        columns: what stands in a line of track_*_info.txt; `other` is passed over. Without `modality`, all are visible.
        folders: of the images, for train and test; then `data`, then the root are looked for.
        counted_from: the number of a list's first line.
        names: a regular expression of an image's name, with the groups that `paths` has.
        paths: where that image lies; `modality` there is ir or rgb.
        least_frames: shorter tracklets are left out, in training and test.
        junk: identities of nobody, whose tracklets are left out (MARS: -1).
        mixed_in: frames whose name is another person's, modality's or camera's than their line's: keep or drop.
    """

    name = "HITSZ-VCM"
    config = "vcm"
    protocol = "mpanet_pl.evaluation.VCMProtocol"
    terms = "its owners' agreement"
    published: ClassVar = {"train": [Counts(500, 126543, 98214)], "test": [Counts(427, 118137, 105979)]}

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        called: str = "vcm",
        columns: Sequence[str] = COLUMNS[:5],
        folders: Sequence[str] = ("Train", "Test"),
        counted_from: int = 1,
        names: str = VCM_NAME,
        paths: str = VCM_PATH,
        least_frames: int = 12,
        junk: Sequence[int] = (),
        mixed_in: Literal["keep", "drop"] = "keep",
    ) -> None:
        super().__init__(root)
        if set(columns) - set(COLUMNS) or {"first", "last", "identity", "camera"} - set(columns):
            optional = "of which modality and other may be left out"
            raise UserError(f"columns are of {', '.join(COLUMNS)}, {optional}; got {', '.join(columns)}.")
        if called != self.config:
            vars(self).update(config=called, name=called, published={})
        self.columns, self.counted_from, self.least_frames = tuple(columns), counted_from, least_frames
        self.names, self.paths, self.mixed_in = re.compile(names), paths, mixed_in
        self.folders, self.junk = dict(zip(SPLITS, folders, strict=True)), set(junk)
        self.one_modality, self.frames_of_others = "modality" not in columns, mixed_in == "keep"
        self._odd: list[str] = []

    def person(self, path: str) -> str:
        first, _, rest = path.partition("/")
        return own_number(rest.split("/")[0] if first in {*self.folders.values(), "data"} else first)

    def list_splits(self, faults: Faults) -> Splits:
        self._odd = []
        train, test = (self._frames(split, faults) for split in SPLITS)
        people = [{*catalogue.identities.tolist()} for catalogue in (train, test)]
        faults.add("identities in both train and test", sorted(people[0] & people[1]))
        return Splits(renumbered(train), test)

    def oddities(self, splits: Splits) -> Iterator[str]:
        yield from self._odd
        cameras = [set(splits.test[rows].cameras.tolist()) for rows in (splits.test.infrared, ~splits.test.infrared)]
        shared = sorted(cameras[0] & cameras[1])
        yield f"camera numbers of both modalities in the test: {listed(shared) or 'none'}"
        if splits.test.queries is not None and splits.test.tracks is not None and not self.one_modality:
            differ = splits.test.tracks[splits.test.queries != splits.test.infrared].unique()
            if len(differ):
                yield f"query_IDX differs from the infrared tracklets, who search here, in {len(differ)} tracklets"

    def _frames(self, split: str, faults: Faults) -> Catalogue:
        names = [line.strip() for line in read_text(self.root, self._info(f"{split}_name.txt"), faults).split()]
        tracks, lines = self._tracks(split, len(names), faults)
        matched = [self.names.fullmatch(name) for name in names]
        faults.add("names of another grammar", [name for name, match in zip(names, matched, strict=True) if not match])
        place = self._places(split)
        searched = self._searched(lines, faults) if split == "test" else set()
        rows, numbers, queries, mixed = [], [], [], {}
        for track in tracks:
            for match in filter(None, matched[track.first : track.last + 1]):
                if self._differs(match, track):
                    mixed[track.line + self.counted_from] = match[0]
                    if self.mixed_in == "drop":
                        continue
                rows.append((place(match), track.identity, track.camera, track.modality == 1))
                numbers.append(track.line)
                queries.append(track.line in searched)
        missing = missing_files(self.root, dict.fromkeys(path for path, *_ in rows))
        faults.add(f"frames of {split}_name.txt that are not there", missing)
        if mixed:
            kept = "kept" if self.mixed_in == "keep" else "dropped"
            named = listed(f"{line} ({name})" for line, name in mixed.items())
            self._odd.append(f"lines of track_{split}_info with frames of others, which are {kept}: {named}")
        catalogue = Catalogue.from_rows(rows, tracks=numbers, queries=queries if searched else None)
        whole = without_short(catalogue, self.least_frames) if rows else catalogue
        if short := len(set(numbers)) - (0 if whole.tracks is None else len(whole.tracks.unique())):
            self._odd.append(f"{split} tracklets of fewer than {self.least_frames} frames, which are left out: {short}")
        return whole

    def _tracks(self, split: str, names: int, faults: Faults) -> tuple[list[Track], int]:
        """The lines of a list without those at fault and those of nobody; and how many lines there are."""
        file, tracks = self._info(f"track_{split}_info.txt", f"tracks_{split}_info.mat"), []
        line, nobodys = -1, 0
        for line, values in enumerate(read_table(self.root, file, len(self.columns), faults)):
            if values is None:
                continue
            said = dict(zip(self.columns, values, strict=True))
            first, last = said["first"] - self.counted_from, said["last"] - self.counted_from
            if said["identity"] in self.junk:
                nobodys += 1
            elif not 0 <= first <= last < names:
                faults.add("tracklets outside the list of names", [f"{file}:{line + 1} {said['first']}-{said['last']}"])
            elif said.get("modality", 2) not in (1, 2):
                faults.add("modalities that are neither 1 nor 2", [f"{file}:{line + 1} {said['modality']}"])
            else:
                tracks.append(Track(said.get("modality", 2), first, last, said["identity"], said["camera"], line))
        if nobodys:
            self._odd.append(f"{split} tracklets of nobody, which are left out: {nobodys}")
        return tracks, line + 1

    def _searched(self, lines: int, faults: Faults) -> set[int]:
        """Lines of track_test_info that are searched for, from 0."""
        file = self._info("query_IDX.txt", "query_IDX.mat")
        numbers = [found[0] - self.counted_from for found in read_table(self.root, file, None, faults) if found]
        outside = [str(number + self.counted_from) for number in numbers if not 0 <= number < lines]
        faults.add("queries that are no line of track_test_info", outside)
        return {*numbers}

    def _info(self, *names: str) -> str:
        """The first of these that is there; otherwise the first."""
        found = (f"{folder}/{name}".lstrip("/") for folder in INFOS for name in names)
        return next((one for one in found if (self.root / one).exists()), names[0])

    def _places(self, split: str) -> Callable[[re.Match[str]], str]:
        """A function from a matched name to its path: folders are found by number, with leading zeros or without."""
        base = next(
            (name for name in (self.folders[split], "data", "") if name == "" or (self.root / name).is_dir()), ""
        )
        folders = {own_number(name): name for name in subfolders(self.root / base)}

        def place(match: re.Match[str]) -> str:
            said = match.groupdict()
            identity = folders.get(own_number(said["identity"]), said["identity"])
            modality = {"1": "ir", "2": "rgb"}.get(said.get("modality") or "", "")
            path = self.paths.format(**said | {"identity": identity, "modality": modality, "name": match[0]})
            return str(Path(base) / path)

        return place

    def _differs(self, match: re.Match[str], track: Track) -> bool:
        said = match.groupdict()
        named = [said.get(column) for column in ("identity", "modality", "camera")]
        listed_as = (track.identity, track.modality, track.camera)
        return any(name is not None and int(name) != is_ for name, is_ in zip(named, listed_as, strict=True))
