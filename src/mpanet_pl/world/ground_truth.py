"""What the drawn world tells a run of its test images: where pattern maps should look, and who is whose sibling."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from mpanet_pl.data import Batch, Catalogue, ReIDDataModule
from mpanet_pl.interfaces import shows
from mpanet_pl.world.annotations import Annotations
from mpanet_pl.world.body import FACINGS
from mpanet_pl.world.nuance_score import NuanceScore, activation_map
from mpanet_pl.world.nuance_table import nuance_line, nuance_remarks, nuance_table
from mpanet_pl.world.occlusion import OcclusionScore, elsewhere, hide
from mpanet_pl.world.siblings import sibling_accuracy


def ground_truth_of(data: ReIDDataModule) -> DrawnGroundTruth | None:
    """Of the test images of a tree that this package drew, in whatever layout."""
    annotations = Annotations.read(data.dataset.root, data.test)
    return DrawnGroundTruth(data.test, annotations) if annotations else None


class DrawnGroundTruth:
    """`mpanet_pl.run.examination.GroundTruth` of a drawn tree."""

    def __init__(self, test: Catalogue, annotations: Annotations) -> None:
        self.test, self.annotations = test, annotations
        self.boxes = annotations.boxes
        self.callback = NuanceScoring(test, annotations)

    @property
    def labels(self) -> dict[str, dict[str, Tensor]]:
        """By each nuance that can be seen in an image, what tells its person from a sibling, and the side seen."""
        known, seen = self.annotations, ~self.annotations.boxes.isnan().any(2)  # (N, K)
        differing = {f"differs in {name}": known.differs == k for k, name in enumerate(known.nuances)}
        views = {} if known.facings is None else {"view": {of: known.facings == k for k, of in enumerate(FACINGS)}}
        return {
            "nuance": {f"{name} seen": seen[:, k] for k, name in enumerate(known.nuances)},
            "sibling": {"none": known.siblings < 0, "has one": known.siblings >= 0, **differing},
            **views,
        }

    def scores(self, embeddings: Tensor) -> dict[str, float]:
        return self.callback.scores | sibling_accuracy(embeddings, self.test, self.annotations)

    line = staticmethod(nuance_line)
    table = staticmethod(nuance_table)
    remarks = staticmethod(nuance_remarks)


class NuanceScoring(pl.Callback):
    """Asks the pattern maps of the test images where they point, where a drawn dataset knows the answer."""

    def __init__(self, test: Catalogue, annotations: Annotations) -> None:
        self.annotations = annotations
        self.metric = NuanceScore(annotations, test.identities)
        self.occlusion = OcclusionScore(annotations, test) if (annotations.siblings >= 0).any() else None
        self.scores: dict[str, float] = {}

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        with trainer.precision_plugin.forward_context():
            maps, activation = _seen(module, batch)
            if self.occlusion is not None:
                self._hide(module, batch)
        self.metric.update(maps, activation, batch.index)

    def _hide(self, module: pl.LightningModule, batch: Batch) -> None:
        assert self.occlusion is not None
        index = batch.index.cpu()
        who = self.annotations.siblings[index] >= 0
        images, differences = batch.images[who.to(batch.images.device)], self.annotations.differences[index[who]]
        if len(images):
            hidden, other = hide(images, differences), hide(images, elsewhere(differences))
            infrared = batch.infrared[who.to(batch.images.device)]
            self.occlusion.update(
                module(hidden, infrared), module(other, infrared), batch.index[who.to(batch.index.device)]
            )

    def on_test_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.scores = self.metric.compute()
        self.metric.reset()
        if self.occlusion is not None:
            self.scores |= self.occlusion.compute()
            self.occlusion.reset()


def _seen(module: pl.LightningModule, batch: Batch) -> tuple[Tensor, Tensor]:
    """Pattern maps (B, P, h, w) and activation (B, h, w)."""
    features, maps = shows(module.network, batch.images, batch.infrared)
    return maps, activation_map(features)
