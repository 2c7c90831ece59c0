"""MP-ReID (ICCV 2025): 1 930 people under fourteen cameras, on the ground and in the air, visible and infrared.

<camera>/<identity>/<number>.jpg                 cameras 1 … 14, identities 0001 …, with leading zeros or without
split/<experiment>/{train,val,test}_id.txt       identities, separated by commas; training uses train and val
<experiment>/…                                   likewise, without split/
exp_cctv_ir_uav_rgb                              an experiment: whose images search, and among whose
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import torch

from mpanet_pl.data.catalogue import Catalogue, Splits
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.layout import DatasetOnDisk, Row, own_number, rows_under, splits_of
from mpanet_pl.data.listing import read_identities, subfolders
from mpanet_pl.errors import UserError

CAMERAS = {"cctv_rgb": range(1, 7), "cctv_ir": range(7, 13), "uav_rgb": range(13, 14), "uav_ir": range(14, 15)}


class MPReID(DatasetOnDisk):
    """One experiment: its queries are all test images of one kind of camera, its gallery all of another.

    camera_digit: the release takes the last digit of a camera's number, by which 1 and 11, 2 and 12, 3 and 13, 4 and 14
        are one, and 10 is 0. No score depends on it, since its protocol has no camera rule.
    """

    name = "MP-ReID"
    config = "mp_reid"
    protocol = "mpanet_pl.evaluation.MPReIDProtocol"
    chosen_by: ClassVar = ("experiment",)
    terms = "its owners' agreement"

    def __init__(
        self, root: str | os.PathLike[str], *, experiment: str = "exp_cctv_ir_cctv_rgb", camera_digit: bool = False
    ) -> None:
        super().__init__(root)
        words = experiment.removeprefix("exp_").split("_")
        self.sides = "_".join(words[:2]), "_".join(words[2:])
        if not set(self.sides) <= set(CAMERAS) or self.sides[0] == self.sides[1]:
            raise UserError(
                f"experiment is exp_A_B, A and B two of {', '.join(CAMERAS)}, got {experiment!r}. (Those of two words "
                "draw their queries without a seed, so that no result of theirs can be had again.)"
            )
        self.experiment, self.camera_digit = experiment, camera_digit
        self.one_modality = self.sides[0].split("_")[1] == self.sides[1].split("_")[1]

    def list_splits(self, faults: Faults) -> Splits:
        inside = (self.root / "split" / self.experiment).is_dir()
        folder = f"split/{self.experiment}" if inside else self.experiment
        train, val, test = (
            read_identities(self.root, f"{folder}/{split}_id.txt", faults) for split in ("train", "val", "test")
        )
        splits = splits_of(self._rows(train | val | test, faults), train, val, test, faults)
        searching = torch.tensor([*CAMERAS[self.sides[0]]])

        def with_queries(part: Catalogue) -> Catalogue:
            cameras = part.cameras % 10 if self.camera_digit else part.cameras
            return replace(part, queries=torch.isin(part.cameras, searching), cameras=cameras)

        return replace(splits, train=with_queries(splits.train), test=with_queries(splits.test))

    def oddities(self, splits: Splits) -> Iterator[str]:
        queries = splits.test.queries
        if queries is not None:
            found = {*splits.test[~queries].identities.tolist()}
            asked = {*splits.test[queries].identities.tolist()}
            yield f"test people of {self.sides[0]} alone, who are searched for in vain: {len(asked - found)}"

    def _rows(self, identities: set[int], faults: Faults) -> Iterator[Row]:
        folders = {own_number(name): name for name in subfolders(self.root)}
        for side in self.sides:
            for camera in CAMERAS[side]:
                folder = folders.get(str(camera))
                faults.add("missing folders", [] if folder else [str(camera)])
                if folder:
                    yield from rows_under(self.root, folder, identities, camera, side.endswith("_ir"))
