"""What a network's own training images teach about its embeddings: their principal components."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mpanet_pl.data import ReIDDataModule
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.projection import Projection, learn
from mpanet_pl.gallery.store import PROJECTION, RECORD, gallery_projection
from mpanet_pl.system.progress import track
from mpanet_pl.system.trust import check_targets, ran_here

MOST = 8192  # training images, evenly spaced: a decomposition takes minutes at this many
IMAGES_A_DIRECTION = 16
BATCH = 64
AUTO = "auto"
Build = Callable[[DictConfig], ReIDDataModule]  # a configuration's data module
ENOUGH = 128  # the narrowest usual width, and none loses what can be measured: docs/background/small_vectors.md


class Teaching(NamedTuple):
    """How a projection is learnt: whitened or not, from which data module, where its images are if they were moved."""

    build: Build
    whiten: bool = False
    data_dir: str | Path | None = None
    trust: str | Sequence[str] | None = ()


def projection_for(folder: Path, compact: int | str | None, embedder: Embedder, how: Teaching) -> Projection | None:
    """What makes a gallery's vectors small: its own where it is begun, else as `projection_of` has it."""
    begun = (folder / RECORD).exists() or (folder / PROJECTION).exists()
    if not begun or compact is None or not (compact == AUTO or isinstance(compact, int)):
        return projection_of(compact, embedder, how)
    there = gallery_projection(folder)
    if compact != AUTO and (there is None or there.dimension != compact):
        has = f"has vectors of {there.dimension} numbers" if there else "keeps all numbers"
        raise UserError(f"{folder} {has}: leave compact={compact} out, or give another out=….")
    return there


def projection_of(compact: int | str | None, embedder: Embedder, how: Teaching) -> Projection | None:
    """compact: a size, learnt from the training images; or a gallery, or a projection's file, to take it from.

    `auto` is `ENOUGH`, or None where the training images cannot teach it and nobody said where they are.
    """
    if compact is None:
        return None
    if compact == AUTO:
        try:
            return projection_of(ENOUGH, embedder, how)
        except UserError as error:
            if how.data_dir is not None:
                raise
            print(f"compact=auto keeps all numbers of a vector: {error}", flush=True)
            return None
    if isinstance(compact, int):
        taught = training_embeddings(embedder, how, most=min(MOST, IMAGES_A_DIRECTION * compact))
        return learn(taught, compact, whiten=how.whiten)
    path = Path(compact)
    return Projection.read(path / PROJECTION if path.is_dir() else path)


def training_embeddings(embedder: Embedder, how: Teaching, *, most: int = MOST) -> Tensor:
    """(N, D) of at most so many images of the split that the network was trained on, which has to be there."""
    origin = embedder.origin
    if "dataset" not in origin.config.get("data", {}):
        raise UserError(f"{origin.path} does not say what it was trained on: give compact the path of a projection.")
    cfg = OmegaConf.create(dict(origin.config))
    if how.data_dir is not None:
        cfg.data_dir = str(how.data_dir)
    check_targets(cfg, origin.path, how.trust, known=ran_here(Path(origin.path).parent.parent))
    cfg.data.cache = False
    data = how.build(cfg.data)
    if not data.dataset.root.is_dir():
        raise UserError(
            f"The training images are not in {data.dataset.root}, and compact=… learns from them: data_dir=…."
        )
    data.setup("fit")
    images = data.images(data.train)
    rows = torch.linspace(0, len(images) - 1, min(most, len(images))).long().split(BATCH)
    batches = track(rows, "Embedding training images", len(rows))
    return torch.cat([embedder(images[some], data.train.infrared[some]).cpu() for some in batches])
