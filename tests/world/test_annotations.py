import json

import numpy as np
import pytest
import torch

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.world.annotations import Annotations

PATHS = ["cam1/0001/0001.jpg", "cam3/0001/0001.jpg", "cam1/0002/0001.jpg", "cam1/0007/0001.jpg"]
IDENTITIES = [1, 1, 2, 7]
DIFFERENCES = np.arange(4 * 4, dtype=np.float32).reshape(4, 4) / 16
BOXES = np.arange(4 * 2 * 4, dtype=np.float32).reshape(4, 2, 4) / 32


def store(folder, identities=IDENTITIES, boxes=BOXES, differences=DIFFERENCES):
    columns = {"paths": np.array(PATHS), "identities": np.array(identities)}
    np.savez(folder / "nuances.npz", **columns, boxes=boxes, differences=differences)


@pytest.fixture
def folder(tmp_path):
    store(tmp_path)
    identities = {
        "1": {"attributes": {}, "siblings": 3, "differs": "shoes"},
        "2": {"attributes": {}, "siblings": 3, "differs": "shoes"},
        "7": {"attributes": {}, "siblings": None, "differs": None},
    }
    (tmp_path / "nuances.json").write_text(
        json.dumps({"seed": 1, "nuances": ["glasses", "shoes"], "identities": identities})
    )
    return tmp_path


def catalogue(*rows):
    label = {"0001": 0, "0002": 1, "0007": 2}  # a split's own, as RegDB's are
    return Catalogue.from_rows([(path, label[path.split("/")[1]], 1, "cam3" in path) for path in rows])


def test_annotations_follow_the_catalogues_order(folder):
    read = Annotations.read(folder, catalogue(PATHS[3], PATHS[0], PATHS[2]))
    assert read.nuances == ("glasses", "shoes")
    assert torch.equal(read.boxes, torch.from_numpy(BOXES[[3, 0, 2]]))
    assert torch.equal(read.differences, torch.from_numpy(DIFFERENCES[[3, 0, 2]]))
    assert read.siblings.tolist() == [-1, 0, 0]
    assert read.differs.tolist() == [-1, 1, 1]


def test_a_real_dataset_has_none(tmp_path):
    assert Annotations.read(tmp_path, catalogue(PATHS[0])) is None


def test_an_unknown_image_is_named(folder):
    with pytest.raises(UserError, match=r"know nothing of 1 of 2 images, first cam9/0001/0001.jpg: draw the dataset"):
        Annotations.read(folder, catalogue(PATHS[0], "cam9/0001/0001.jpg"))


def test_an_unknown_identity_is_named(folder):
    store(folder, identities=[1, 1, 2, 8])
    with pytest.raises(UserError, match="know nothing of 1 of 2 identities, first 8"):
        Annotations.read(folder, catalogue(PATHS[0], PATHS[3]))


def test_files_that_disagree_are_refused(folder):
    store(folder, boxes=BOXES[:, :1])
    with pytest.raises(UserError, match=r"boxes of shape \(4, 1, 4\) where \(4, 2, 4\) was expected"):
        Annotations.read(folder, catalogue(PATHS[0]))


@pytest.mark.parametrize("name", ["nuances.npz", "nuances.json"])
def test_a_truncated_or_missing_file_is_refused(folder, name):
    stored = (folder / name).read_bytes()
    (folder / name).write_bytes(stored[: len(stored) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        Annotations.read(folder, catalogue(PATHS[0]))
    (folder / name).unlink()
    with pytest.raises(UserError, match="cannot be read"):
        Annotations.read(folder, catalogue(PATHS[0]))
