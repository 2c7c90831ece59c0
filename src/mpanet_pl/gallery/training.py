"""What a network's own training images teach about its embeddings: their principal components."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.compact import Projection, learn
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.store import PROJECTION
from mpanet_pl.run.configuration import check_targets
from mpanet_pl.run.datasets import build_data
from mpanet_pl.system.progress import track

MOST = 8192  # training images, evenly spaced: a decomposition takes minutes at this many
BATCH = 64


def projection_of(
    compact: int | str | Path,
    embedder: Embedder,
    *,
    whiten: bool = False,
    data_dir: str | Path | None = None,
    trust: str | Sequence[str] | None = (),
) -> Projection:
    """compact: a size, learnt from the training images; or a gallery, or a projection's file, to take it from."""
    if isinstance(compact, int):
        return learn(training_embeddings(embedder, data_dir=data_dir, trust=trust), compact, whiten=whiten)
    path = Path(compact)
    return Projection.read(path / PROJECTION if path.is_dir() else path)


def training_embeddings(
    embedder: Embedder, *, data_dir: str | Path | None = None, trust: str | Sequence[str] | None = (), most: int = MOST
) -> Tensor:
    """(N, D) of at most so many images of the split that the network was trained on, which has to be there."""
    origin = embedder.origin
    if not origin.config:
        raise UserError(f"{origin.path} does not say what it was trained on: give compact the path of a projection.")
    cfg = OmegaConf.create(dict(origin.config))
    if data_dir is not None:
        cfg.data_dir = str(data_dir)
    check_targets(cfg, origin.path, trust)
    cfg.data.cache = False
    data = build_data(cfg.data)
    if not data.dataset.root.is_dir():
        raise UserError(
            f"The training images are not in {data.dataset.root}, and compact=… learns from them: data_dir=…."
        )
    data.setup("fit")
    images = data.images(data.train)
    rows = torch.linspace(0, len(images) - 1, min(most, len(images))).long().split(BATCH)
    batches = track(rows, "Embedding training images", len(rows))
    return torch.cat([embedder(images[some]).cpu() for some in batches])
