"""SYSU-MM01 (Wu et al., ICCV 2017): 491 people under four visible and two infrared cameras.

cam1 … cam6/<identity>/<number>.jpg      cameras 3 and 6 are infrared
exp/{train_id,val_id,test_id}.txt        identities, separated by commas; training uses train and val
exp/rand_perm_cam.mat                    the official draw of the galleries, where the user has it
"""

from collections.abc import Iterator
from typing import ClassVar

from mpanet_pl.data.catalogue import Splits
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.layout import Counts, DatasetOnDisk, Row, rows_under, splits_of
from mpanet_pl.data.listing import read_identities

VISIBLE_CAMERAS = (1, 2, 4, 5)
INFRARED_CAMERAS = (3, 6)
PERMUTATIONS = "exp/rand_perm_cam.mat"


class SYSU(DatasetOnDisk):
    name = "SYSU-MM01"
    config = "sysu"
    protocol = "mpanet_pl.evaluation.SYSUProtocol"
    infrared_cameras = INFRARED_CAMERAS
    terms = "its owners' agreement"
    published: ClassVar = {"train": [Counts(395, 22258, 11909)], "test": [Counts(96, 6775, 3803)]}

    def list_splits(self, faults: Faults) -> Splits:
        train, val, test = (
            read_identities(self.root, f"exp/{split}_id.txt", faults) for split in ("train", "val", "test")
        )
        return splits_of(self._rows(train | val | test, faults), train, val, test, faults)

    def warnings(self, splits: Splits, protocol: object = None) -> Iterator[str]:
        yield from super().warnings(splits, protocol)
        if not self.published or getattr(protocol, "permutations", "") is not None:
            return
        file, drawn = self.root / PERMUTATIONS, getattr(protocol, "draw", "another draw")
        if file.exists():
            yield f"{file} is there, but is not used: results are measured on {drawn}."
            return
        yield (
            f"{file} is missing: the official draw of SYSU-MM01's galleries, which "
            "comes with the dataset's evaluation code. Put it there, or name it (protocol.permutations=PATH). "
            f"Without it results are measured on {drawn}."
        )

    def _rows(self, identities: set[int], faults: Faults) -> Iterator[Row]:
        for camera in sorted(VISIBLE_CAMERAS + INFRARED_CAMERAS):
            folder = f"cam{camera}"
            faults.add("missing folders", [] if (self.root / folder).is_dir() else [folder])
            yield from rows_under(self.root, folder, identities, camera, camera in INFRARED_CAMERAS)
