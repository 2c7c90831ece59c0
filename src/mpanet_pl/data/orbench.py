"""ORBench (NeurIPS 2025): 1 000 people in five modalities, of which this reads the visible and the near-infrared.

train_annos.json                   [{id, file_path: vis/0001/…, …}]; infrared images are found by their folder
test_gallery_and_queries.json      {RGB_GALLERY: [[id, path], …], NIR: [[id, path], …], …}

Part of its images are SYSU-MM01's and LLCM's: a file's name says whose. A network trained there has seen these people.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from mpanet_pl.data.catalogue import Catalogue, Splits
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.layout import DatasetOnDisk, Row, by_identity, own_number, relabelled
from mpanet_pl.data.listing import images_in, is_number, leads_out, missing_files, read_json
from mpanet_pl.data.seen import SOMEBODY

ORIGINS = ("llcm", "sysu")
TRAIN, TEST = "train_annos.json", "test_gallery_and_queries.json"


class ORBench(DatasetOnDisk):
    """Infrared images search the visible gallery. Cameras are not said: visible is 1, infrared 2."""

    name = "ORBench"
    config = "orbench"
    protocol = "mpanet_pl.evaluation.ORBenchProtocol"
    terms = "its owners' agreement, and those of SYSU-MM01 and LLCM, whose images it holds"

    def source_of(self, path: str) -> str:
        """The person in the dataset that the image comes from, where its name says which."""
        return origin(PurePosixPath(path).name) or f"orbench/{own_number(path.split('/')[1])}"

    def list_splits(self, faults: Faults) -> Splits:
        train, test = (sorted(rows, key=by_identity) for rows in (self._train(faults), self._test(faults)))
        folders = [{path.split("/")[1] for path, *_ in rows} for rows in (train, test)]
        faults.add("identities in both train and test", sorted(folders[0] & folders[1]))
        missing = missing_files(self.root, [path for path, *_ in test])
        faults.add("test images that are not there", missing)
        return Splits(relabelled(train), Catalogue.from_rows(test, queries=[infrared for *_, infrared in test]))

    def oddities(self, splits: Splits) -> Iterator[str]:
        for split, catalogue in (("train", splits.train), ("test", splits.test)):
            if catalogue.sources:
                theirs = sum(not source.startswith("orbench/") for source in catalogue.sources)
                yield f"{split} images whose names say another dataset: {theirs} of {len(catalogue)}"

    def _train(self, faults: Faults) -> Iterator[Row]:
        listed = read_json(self.root, TRAIN, list, faults)
        good = [one for one in listed if isinstance(one, dict) and _is_pair([one.get("id"), one.get("file_path")])]
        bad = len(listed) - len(good)
        faults.add("entries without id and file_path", [f"{TRAIN}: {bad}"] if bad else [])
        labels = {str(one["file_path"]): int(one["id"]) for one in good}
        missing = {*missing_files(self.root, labels)}
        faults.add("training images that are not there", sorted(missing))
        people: dict[str, int] = {}
        for path, label in labels.items():
            people[path.split("/")[1]] = label
            if path not in missing:
                yield path, label, 1, False
        for person, label in people.items():
            found = images_in(self.root / "nir" / person)
            faults.add("training people without an infrared folder", [] if found else [f"nir/{person}"])
            for name in found:
                yield f"nir/{person}/{name}", label, 2, True

    def _test(self, faults: Faults) -> Iterator[Row]:
        listed = read_json(self.root, TEST, dict, faults)
        for key, camera in (("RGB_GALLERY", 1), ("NIR", 2)):
            pairs = listed.get(key)
            if not isinstance(pairs, list):
                faults.add("missing lists", [f"{key} of {TEST}"])
                continue
            faults.add(
                "entries that are not identity and path", [f"{key}: {one}" for one in pairs if not _is_pair(one)]
            )
            for identity, path in dict.fromkeys((int(one[0]), str(one[1])) for one in pairs if _is_pair(one)):
                yield path, identity, camera, camera == 2


def origin(name: str) -> str:
    """The dataset and the person whom a file's name says, of the first three words; empty where it says none.

    >>> origin("llcm_train_0012_c03.jpg"), origin("0012_sysu_cam3_0001.jpg"), origin("llcm_a_b_1.jpg"), origin("1.jpg")
    ('llcm/12', 'sysu/12', 'llcm/?', '')
    """
    lowered = name.lower()
    named = next((dataset for dataset in ORIGINS if dataset in lowered), None)
    if named is None:
        return ""
    words = [word for word in lowered.split("_")[:3] if re.fullmatch(r"\d+", word)]
    return f"{named}/{own_number(words[-1])}" if len(words) == 1 else f"{named}/{SOMEBODY}"


def _is_pair(one: Any) -> bool:
    is_list = isinstance(one, list) and len(one) == 2 and isinstance(one[1], str) and one[1].count("/") >= 2
    return is_list and not leads_out(one[1]) and is_number(str(one[0]))
