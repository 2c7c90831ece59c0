"""A gallery without a network, and every way to ask it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from mpanet_pl.gallery.searching import Filter
from mpanet_pl.gallery.shards import COLUMNS, write_shard
from mpanet_pl.gallery.store import Gallery, write_record

FILTERS = [
    Filter(),
    Filter(cameras=["door", "02"]),
    Filter(not_cameras=[1]),
    Filter(modality="infrared"),
    Filter(after=30, before=60),
    Filter(other_camera=True),
    Filter(within=20),
    Filter(cameras=["1"], modality="visible", other_camera=True, within=10),
]
D = 8
CAMERAS, MODALITIES = [None, "1", "2", "door"], [None, "visible", "infrared"]


def made(folder: Path, count: int, *, shards: int = 3, dtype: str = "float32", seed: int = 0) -> Gallery:
    """A gallery of random vectors, of which some columns are unknown."""
    rng = np.random.default_rng(seed)
    record = dict.fromkeys(("checkpoint", "last_stride", "height", "width", "flip", "compact"), None)
    record |= {
        "checkpoint": "0",
        "dimension": D,
        "dtype": dtype,
        "group": None,
        "root": "/crops",
        "trained_on": "x",
        "ckpt": "gone.ckpt",
        "precision": "float32",
    }
    folder.mkdir()
    write_record(folder, record)
    vectors = torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((count, D)))).float().numpy()
    columns = {
        "path": np.array([f"{row}.png" for row in range(count)], object),
        "camera": np.array(CAMERAS, object)[rng.integers(4, size=count)],
        "modality": np.array(MODALITIES, object)[rng.integers(3, size=count)],
        "time": np.array([None, *range(0, 100, 10)], object)[rng.integers(11, size=count)],
    }
    for number, rows in enumerate(np.array_split(np.arange(count), shards)):
        some = {name: pa.array(column[rows].tolist(), COLUMNS[name]) for name, column in columns.items()}
        write_shard(folder / f"part-{number:06d}.parquet", some, vectors[rows], record, [])
    return Gallery(folder)
