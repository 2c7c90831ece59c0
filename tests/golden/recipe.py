"""Inputs of the reference measurements, rebuilt from a seed: nothing large is stored.

Every draw uses numpy's legacy generator, whose stream is frozen, so the numbers are the same everywhere.
"""

import csv
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
STRUCTURE = HERE.parents[1] / "src" / "mpanet_pl" / "world" / "sysu_counts.csv"


def weight(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The tensor stored under `key` (a name of the released checkpoint format) in float64."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    noise = np.random.RandomState(zlib.crc32(f"{seed}:{key}".encode())).standard_normal(shape)
    leaf = key.rsplit(".", 1)[1]
    if leaf == "running_var":
        return np.exp(0.2 * noise)
    if leaf == "running_mean":
        return 0.1 * noise
    if len(shape) == 1 and leaf == "weight":  # a normalisation's scale; small at the end of a residual block
        return (1 + 0.1 * noise) * (0.2 if key.endswith("bn3.weight") else 1)
    if leaf == "bias":
        return 0.0 * noise if key.startswith("bn_neck") else 0.1 * noise
    if len(shape) == 4:
        return noise * np.sqrt(2 / (shape[1] * shape[2] * shape[3]))
    return 0.01 * noise


def images(seed: int, count: int, height: int, width: int) -> np.ndarray:
    """A batch (count, 3, height, width) in float64, as the network sees it (already normalised)."""
    return np.random.RandomState(seed).standard_normal((count, 3, height, width))


def batch_of(case: dict, step: int | None = None) -> dict[str, np.ndarray]:
    """The batch of a network case: `step` None is the one whose features are stored, 0.. the training steps.

    Rows come identity by identity, `k` rows each, infrared and visible in turn (infrared first).
    """
    count = case["identities"] * case["k"]
    seed = case["seed"] if step is None else case["seed"] + 100 + step
    return {
        "images": images(seed, count, case["height"], case["width"]),
        "labels": np.repeat(np.arange(case["identities"]), case["k"]) * 2 + 1,
        "infrared": np.tile([True, False], count // 2),
    }


def sysu_structure() -> list[dict[str, int | str]]:
    """One row per identity of SYSU-MM01: its split and its number of images under each of the six cameras."""
    with open(STRUCTURE, newline="") as file:
        return [{k: v if k == "split" else int(v) for k, v in row.items()} for row in csv.DictReader(file)]


def sysu_features(seed: int, dim: int, noise: float = 1.6) -> dict[str, np.ndarray]:
    """Made-up features for every test image of SYSU-MM01, camera by camera, identity by identity."""
    test = sorted((row for row in sysu_structure() if row["split"] == "test"), key=lambda row: row["identity"])
    identities, cameras, paths = [], [], []
    for camera in range(1, 7):
        for row in test:
            for number in range(1, row[f"cam{camera}"] + 1):
                identities.append(row["identity"])
                cameras.append(camera)
                paths.append(f"cam{camera}/{row['identity']:04d}/{number:04d}.jpg")
    rng = np.random.RandomState(seed)
    ids, cams = np.array(identities), np.array(cameras)
    centre = rng.standard_normal((534, dim))
    offset = rng.standard_normal((7, dim))
    features = centre[ids] + offset[cams] * 0.5 + noise * rng.standard_normal((len(ids), dim))
    return {
        "features": features.astype(np.float32),
        "identities": ids,
        "cameras": cams,
        "infrared": np.isin(cams, (3, 6)),
        "paths": np.array(paths),
    }


def regdb_features(
    seed: int, dim: int, identities: int = 206, per: int = 10, noise: float = 2.2
) -> dict[str, np.ndarray]:
    """Made-up features of a RegDB test split: `per` visible and `per` thermal images an identity."""
    rng = np.random.RandomState(seed)
    centre = rng.standard_normal((identities, dim))
    offset = rng.standard_normal((2, dim))
    ids = np.repeat(np.arange(identities), per)
    visible = centre[ids] + 0.5 * offset[0] + noise * rng.standard_normal((len(ids), dim))
    thermal = centre[ids] + 0.5 * offset[1] + noise * rng.standard_normal((len(ids), dim))
    return {"visible": visible.astype(np.float32), "thermal": thermal.astype(np.float32), "identities": ids}


def permutations(seed: int) -> dict[int, dict[int, np.ndarray]]:
    """A permutation table of the official kind, made up: camera -> identity -> (10 trials, images), numbers from 1."""
    rng = np.random.RandomState(seed)
    table: dict[int, dict[int, np.ndarray]] = {}
    for camera in range(1, 7):
        table[camera] = {}
        for row in sorted(sysu_structure(), key=lambda row: row["identity"]):
            count = row[f"cam{camera}"]
            table[camera][row["identity"]] = np.array([rng.permutation(count) + 1 for _ in range(10)]).reshape(
                10, count
            )
    return table


def save_permutations(path: str | Path, table: dict[int, dict[int, np.ndarray]]) -> None:
    """Write such a table as the official file has it: `rand_perm_cam`, a 6x1 cell of 533x1 cells of 10xN integers."""
    from scipy.io import savemat

    cameras = np.empty((6, 1), dtype=object)
    for camera, by_identity in table.items():
        cell = np.empty((533, 1), dtype=object)
        for identity, trials in by_identity.items():
            cell[identity - 1, 0] = trials.astype(np.uint16)
        cameras[camera - 1, 0] = cell
    savemat(path, {"rand_perm_cam": cameras})
