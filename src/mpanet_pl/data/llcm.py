"""LLCM (Zhang and Wang, CVPR 2023): 1 064 people under nine cameras, by day and in low light.

idx/{train_vis,train_nir}.txt                        lines of a path and a label
idx/test_id.txt                                      identities, separated by commas
{test_vis,test_nir}/cam<camera>/<identity>/*.jpg     there is no near-infrared camera 3
"""

import re
from collections.abc import Iterator
from typing import ClassVar

from mpanet_pl.data.catalogue import Catalogue, Splits
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.layout import Counts, DatasetOnDisk, Row, by_identity, person_folders, relabelled, rows_under
from mpanet_pl.data.listing import read_identities, read_labelled_paths

MODALITIES = (("vis", False, (1, 2, 3, 4, 5, 6, 7, 8, 9)), ("nir", True, (1, 2, 4, 5, 6, 7, 8, 9)))


class LLCM(DatasetOnDisk):
    name = "LLCM"
    config = "llcm"
    protocol = "mpanet_pl.evaluation.LLCMProtocol"
    terms = "its owners' agreement"
    published: ClassVar = {"train": [Counts(713, 16946, 13975)], "test": [Counts(351, 8680, 7166)]}

    def list_splits(self, faults: Faults) -> Splits:
        train = sorted(self._train_rows(faults), key=by_identity)
        identities = read_identities(self.root, "idx/test_id.txt", faults)
        test = sorted(self._test_rows(identities, faults), key=by_identity)
        faults.add("identities in both train and test", sorted(identities & person_folders(train)))
        faults.add("identities of a split file without any image", sorted(identities - {row[1] for row in test}))
        return Splits(relabelled(train), Catalogue.from_rows(test))

    def _train_rows(self, faults: Faults) -> Iterator[Row]:
        for modality, infrared, _ in MODALITIES:
            for path, label in read_labelled_paths(self.root, f"idx/train_{modality}.txt", faults).items():
                yield path, label, camera_of(path), infrared

    def _test_rows(self, identities: set[int], faults: Faults) -> Iterator[Row]:
        for modality, infrared, cameras in MODALITIES:
            for camera in cameras:
                folder = f"test_{modality}/cam{camera}"
                faults.add("missing folders", [] if (self.root / folder).is_dir() else [folder])
                yield from rows_under(self.root, folder, identities, camera, infrared)


def camera_of(path: str) -> int:
    """A training image's camera: a folder `cam<n>` or a file name with `_c<n>_`; 0 where its path does not say.

    >>> [camera_of(path) for path in ("vis/0001/0001_c03_s1.jpg", "train_vis/cam4/0001/a.jpg", "vis/0001/a.jpg")]
    [3, 4, 0]
    """
    found = re.search(r"/cam(\d{1,18})/|_c(\d{1,18})_", f"/{path}")
    return int(found[1] or found[2]) if found else 0
