"""A dataset of one's own: a table of images, one row for each, as `python write_table.py` leaves it."""

import csv

from mpanet_pl.data import Catalogue, Splits
from mpanet_pl.data.layout import DatasetOnDisk, relabelled


class Table(DatasetOnDisk):
    """`table` has the columns path (under the root), person, camera, modality (visible, infrared) and split."""

    name = "The table"
    protocol = "mpanet_pl.evaluation.FolderProtocol"

    def __init__(self, root, *, table="people.csv"):
        super().__init__(root)
        self.table = table

    def list_splits(self, faults):
        with open(self.root / self.table, newline="") as file:
            lines = list(csv.DictReader(file))
        wrong = [line["path"] for line in lines if line["modality"] not in ("visible", "infrared")]
        faults.add("images of another modality", wrong)
        missing = [line["path"] for line in lines if not (self.root / line["path"]).exists()]
        faults.add("missing images", missing)

        def rows(split):
            chosen = [line for line in lines if line["split"] == split]
            return [
                (one["path"], int(one["person"]), int(one["camera"]), one["modality"] == "infrared") for one in chosen
            ]

        return Splits(relabelled(rows("train")), Catalogue.from_rows(rows("test")))
