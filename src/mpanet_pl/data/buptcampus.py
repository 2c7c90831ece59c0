"""BUPTCampus (Du et al., TIFS 2023): tracklets of 2 004 people under six cameras, each seen in both modalities at once.

data_paths.json              identity -> IR, RGB or FakeIR -> camera -> tracklet -> paths under DATA/
{train,query,gallery}.txt    identity, modality (RGB/IR: both of a pair), camera, tracklet
train_auxiliary.txt          likewise, of people under one camera each; with `auxiliary` they are trained on, too
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, ClassVar

from mpanet_pl.data.catalogue import Catalogue, Splits
from mpanet_pl.data.faults import Faults, listed
from mpanet_pl.data.layout import Counts, DatasetOnDisk, own_number
from mpanet_pl.data.listing import missing_files, read_text
from mpanet_pl.data.tracklets import renumbered

CAMERAS = ("LS3", "G25", "CQ1", "W4", "TSG1", "TSG2")
MODALITIES = {"RGB": ("RGB",), "IR": ("IR",), "RGB/IR": ("RGB", "IR")}
IMAGES = "DATA"


class BUPTCampus(DatasetOnDisk):
    name = "BUPTCampus"
    config = "buptcampus"
    protocol = "mpanet_pl.evaluation.BUPTCampusProtocol"
    chosen_by: ClassVar = ("auxiliary",)
    terms = "its owners' agreement"
    published: ClassVar = {"train": [Counts(1074, 398069, 398069), Counts(2004, 502644, 502644)]}

    def __init__(self, root: str | os.PathLike[str], *, auxiliary: bool = False) -> None:
        super().__init__(root)
        self.auxiliary = auxiliary
        self._both: list[str] = []

    def person(self, path: str) -> str:
        return own_number(path.split("/")[1])

    def list_splits(self, faults: Faults) -> Splits:
        paths = self._paths(faults)
        lists = ["train.txt", *(["train_auxiliary.txt"] if self.auxiliary else [])]
        train = self._frames([(name, False) for name in lists], paths, faults)
        test = self._frames([("query.txt", True), ("gallery.txt", False)], paths, faults)
        shared = {*train.identities.tolist()} & {*test.identities.tolist()}
        faults.add("identities in both train and test", sorted(shared))
        return Splits(renumbered(train), test)

    def oddities(self, splits: Splits) -> Iterator[str]:
        yield f"tracklets that are queries and in the gallery, too: {listed(self._both) or 'none'}"

    def _frames(self, lists: list[tuple[str, bool]], paths: dict[str, Any], faults: Faults) -> Catalogue:
        rows, tracks, queries = [], [], []
        seen: dict[str, str] = {}
        self._both = []
        number = 0
        for name, is_query in lists:
            for line, text in enumerate(read_text(self.root, name, faults).splitlines(), start=1):
                if not (fields := text.split()):
                    continue
                place = f"{name}:{line} '{text.strip()}'"
                if len(fields) != 4 or not fields[0].isdecimal() or fields[1] not in MODALITIES:
                    faults.add("lines that are not identity, modality, camera, tracklet", [place])
                    continue
                person, modality, camera, track = fields
                if camera not in CAMERAS:
                    faults.add(f"cameras that are none of {', '.join(CAMERAS)}", [place])
                    continue
                for one in MODALITIES[modality]:
                    frames = _within(paths, person, one, camera, track)
                    if not frames:
                        faults.add("tracklets that data_paths.json does not have", [place])
                        continue
                    if seen.setdefault(f"{person} {one} {camera} {track}", name) != name:
                        self._both.append(f"{person} {one} {camera} {track}")
                    at = CAMERAS.index(camera) + 1
                    rows += [(f"{IMAGES}/{path}", int(person), at, one == "IR") for path in frames]
                    tracks += [number] * len(frames)
                    queries += [is_query] * len(frames)
                    number += 1
        missing = missing_files(self.root, dict.fromkeys(path for path, *_ in rows))
        faults.add("frames of data_paths.json that are not there", missing)
        is_test = any(is_query for _, is_query in lists)
        return Catalogue.from_rows(rows, tracks=tracks, queries=queries if is_test else None)

    def _paths(self, faults: Faults) -> dict[str, Any]:
        """data_paths.json by identities without leading zeros."""
        text = read_text(self.root, "data_paths.json", faults)
        try:
            found = json.loads(text) if text else {}
        except (ValueError, RecursionError) as error:
            faults.add("split files that cannot be read", [f"data_paths.json ({error})"])
            return {}
        if not isinstance(found, dict):
            faults.add("split files that cannot be read", ["data_paths.json (it is no object)"])
            return {}
        return {own_number(person): content for person, content in found.items()}


def _within(paths: dict[str, Any], person: str, modality: str, camera: str, track: str) -> list[str]:
    """A tracklet's frames; none where a part of its name is not there."""
    found: Any = paths.get(own_number(person))
    for key in (modality, camera, track):
        if not isinstance(found, dict):
            return []
        found = found.get(key, {own_number(name): name for name in found}.get(own_number(key)))
        found = found if not isinstance(found, str) else None
    return [str(path) for path in found] if isinstance(found, list) else []
