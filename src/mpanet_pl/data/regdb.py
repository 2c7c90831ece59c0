"""RegDB (Nguyen et al., Sensors 2017): 412 people, ten visible and ten thermal images of each, ten ways to halve them.

idx/{train,test}_{visible,thermal}_<trial>.txt      lines of a path and a label, such as `Visible/2/a.bmp 0`
"""

import os
from typing import ClassVar

from mpanet_pl.data.catalogue import Catalogue, Splits
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.layout import Counts, DatasetOnDisk, Row, by_identity, person_folders, relabelled
from mpanet_pl.data.listing import read_labelled_paths
from mpanet_pl.errors import UserError

TRIALS = range(1, 11)


class RegDB(DatasetOnDisk):
    """One trial: train on its half of the people, test on the other. Camera 1 is visible, camera 2 thermal."""

    name = "RegDB"
    config = "regdb"
    protocol = "mpanet_pl.evaluation.RegDBProtocol"
    trials = TRIALS
    chosen_by = ("trial",)
    terms = "its owners' agreement"
    published: ClassVar = {"train": [Counts(206, 2060, 2060)], "test": [Counts(206, 2060, 2060)]}

    def __init__(self, root: str | os.PathLike[str], *, trial: int = 1) -> None:
        if trial not in TRIALS:
            raise UserError(f"RegDB has trials 1 to 10, got {trial}")
        super().__init__(root)
        self.trial = trial

    @property
    def check_command(self) -> str:
        return f"{super().check_command} trial={self.trial}"

    def list_splits(self, faults: Faults) -> Splits:
        train, test = self._rows("train", faults), self._rows("test", faults)
        faults.add("images in both train and test", sorted({row[0] for row in train} & {row[0] for row in test}))
        faults.add("identities in both train and test", sorted(person_folders(train) & person_folders(test)))
        return Splits(relabelled(train), Catalogue.from_rows(test))

    def _rows(self, split: str, faults: Faults) -> list[Row]:
        rows = [
            (path, label, camera, infrared)
            for modality, camera, infrared in (("visible", 1, False), ("thermal", 2, True))
            for path, label in read_labelled_paths(
                self.root, f"idx/{split}_{modality}_{self.trial}.txt", faults
            ).items()
        ]
        return sorted(rows, key=by_identity)
