"""Made-up embeddings with their catalogues: the golden cases, and small random ones whose products are exact."""

import random
from pathlib import Path

import numpy as np
import torch
from golden import recipe
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue

Case = tuple[Tensor, Catalogue]  # (N, D) float64 embeddings, and whom they show


def sysu(seed: int = 1, dim: int = 64) -> Case:
    features = recipe.sysu_features(seed, dim)
    catalogue = Catalogue(
        tuple(features["paths"].tolist()),
        *(torch.from_numpy(features[name]) for name in ("identities", "cameras", "infrared")),
    )
    return torch.from_numpy(features["features"]).double(), catalogue


def regdb(seed: int, dim: int, **sizes: float) -> Case:
    features = recipe.regdb_features(seed, dim, **sizes)
    identities = features["identities"].tolist()
    rows = [
        (f"{folder}/{number:04d}.bmp", identity, camera, camera == 2)
        for folder, camera in (("Visible", 1), ("Thermal", 2))
        for number, identity in enumerate(identities)
    ]
    embeddings = np.concatenate([features["visible"], features["thermal"]])
    return torch.from_numpy(embeddings).double(), Catalogue.from_rows(rows)


def llcm() -> Case:
    with np.load(Path(recipe.HERE) / "evaluation" / "llcm_seed21.npz") as stored:
        rows = [
            (f"{side}/{number:04d}.jpg", int(identity), int(camera), side == "query")
            for side in ("query", "gallery")
            for number, (identity, camera) in enumerate(zip(stored[f"{side}_ids"], stored[f"{side}_cams"], strict=True))
        ]
        embeddings = np.concatenate([stored["query"], stored["gallery"]])
    return torch.from_numpy(embeddings).double(), Catalogue.from_rows(rows)


def small(seed: int, cameras: tuple[int, ...] = (1, 2, 3, 4, 5, 6), infrared: tuple[int, ...] = (3, 6)) -> Case:
    """A few images of a few identities, each under some of the cameras, in no order.

    Embeddings are ±1 in 16 dimensions: their lengths and products are exact in float32, and many are equal.
    """
    draw = random.Random(seed)
    rows = [
        (f"cam{camera}/{identity:04d}/{number:04d}.jpg", identity, camera, camera in infrared)
        for identity in range(1, draw.randint(3, 9))
        for camera in cameras
        if draw.random() < 0.7
        for number in range(1, draw.randint(2, 14))
    ]
    draw.shuffle(rows)
    signs = torch.randint(0, 2, (len(rows), 16), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return signs.double(), Catalogue.from_rows(rows)
