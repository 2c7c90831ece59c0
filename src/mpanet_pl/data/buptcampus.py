"""BUPTCampus (Du et al., TIFS 2023): tracklets of 2 004 people under six cameras, each seen in both modalities at once.

data_paths.json              identity -> IR, RGB or FakeIR -> camera -> tracklet -> paths under DATA/
{train,query,gallery}.txt    identity, modality (RGB/IR: both of a pair), camera, tracklet
train_auxiliary.txt          likewise, of people under one camera each; with `auxiliary` they are trained on, too
"""

import os
from collections.abc import Iterator
from typing import Any, ClassVar

from mpanet_pl.data.catalogue import Catalogue, Splits, renumbered
from mpanet_pl.data.faults import Faults, listed
from mpanet_pl.data.layout import Counts, DatasetOnDisk, Row, own_number
from mpanet_pl.data.listing import is_number, missing_files, read_json, read_text

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
        by_person = read_json(self.root, "data_paths.json", dict, faults)
        paths = {own_number(person): content for person, content in by_person.items()}
        lists = ["train.txt", *(["train_auxiliary.txt"] if self.auxiliary else [])]
        train = self._frames([(name, False) for name in lists], paths, faults)
        test = self._frames([("query.txt", True), ("gallery.txt", False)], paths, faults)
        shared = {*train.identities.tolist()} & {*test.identities.tolist()}
        faults.add("identities in both train and test", sorted(shared))
        return Splits(renumbered(train), test)

    def oddities(self, splits: Splits) -> Iterator[str]:
        yield f"tracklets that are queries and in the gallery, too: {listed(self._both) or 'none'}"

    def _frames(self, lists: list[tuple[str, bool]], paths: dict[str, Any], faults: Faults) -> Catalogue:
        rows: list[Row] = []
        tracks: list[int] = []
        queries: list[bool] = []
        first_list: dict[tuple[str, ...], str] = {}
        self._both = []
        for name, is_query in lists:
            for place, *track in self._tracklets(name, faults):
                person, modality, camera, number = track
                frames = _within(paths, person, modality, camera, number)
                faults.add("tracklets that data_paths.json does not have", [] if frames else [place])
                if first_list.setdefault(tuple(track), name) != name:
                    self._both.append(" ".join(track))
                at = CAMERAS.index(camera) + 1
                tracks += [tracks[-1] + 1 if tracks else 0] * len(frames)
                rows += [(f"{IMAGES}/{path}", int(person), at, modality == "IR") for path in frames]
                queries += [is_query] * len(frames)
        missing = missing_files(self.root, dict.fromkeys(path for path, *_ in rows))
        faults.add("frames of data_paths.json that are not there", missing)
        is_test = any(is_query for _, is_query in lists)
        return Catalogue.from_rows(rows, tracks=tracks, queries=queries if is_test else None)

    def _tracklets(self, name: str, faults: Faults) -> Iterator[tuple[str, str, str, str, str]]:
        """Of each tracklet in a list: its line, identity, modality (RGB or IR), camera and number."""
        for line, text in enumerate(read_text(self.root, name, faults).splitlines(), start=1):
            if not (fields := text.split()):
                continue
            place = f"{name}:{line} '{text.strip()}'"
            if len(fields) != 4 or not is_number(fields[0]) or fields[1] not in MODALITIES:
                faults.add("lines that are not identity, modality, camera, tracklet", [place])
            elif fields[2] not in CAMERAS:
                faults.add(f"cameras that are none of {', '.join(CAMERAS)}", [place])
            else:
                yield from ((place, fields[0], modality, fields[2], fields[3]) for modality in MODALITIES[fields[1]])


def _within(paths: dict[str, Any], person: str, modality: str, camera: str, track: str) -> list[str]:
    """A tracklet's frames; none where a part of its name is not there."""
    found: Any = paths.get(own_number(person))
    for key in (modality, camera, track):
        if not isinstance(found, dict):
            return []
        found = found.get(key, {own_number(name): name for name in found}.get(own_number(key)))
        found = found if not isinstance(found, str) else None
    return [str(path) for path in found] if isinstance(found, list) else []
