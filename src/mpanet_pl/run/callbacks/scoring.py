"""Scores of the test images, while training and at its end: a protocol meets the embeddings that the steps return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from mpanet_pl.data import Batch
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import ReIDMetric, Scores

MONITOR = "val/monitor"
NEVER = 10**9


class RetrievalScoring(pl.Callback):
    """Owns the metric. Validates at epoch `start` and every `every` after it; epochs count from 1.

    `monitor` names the settings whose mean rank-1 is logged as `val/monitor`; None takes all.
    With `flip`, a test embedding is the mean over the image and its mirror image.
    """

    def __init__(
        self,
        metric: ReIDMetric,
        *,
        start: int = 1,
        every: int = 1,
        monitor: Sequence[str] | None = None,
        flip: bool = False,
    ) -> None:
        if every < 1:
            raise UserError(f"validation.every must be at least 1, got {every}.")
        settings = [name for search in metric.protocol.searches(metric.catalogue) for name in search.galleries]
        if unknown := [str(name) for name in monitor or () if name not in settings]:
            raise UserError(f"validation.monitor takes {', '.join(settings)}, got {', '.join(unknown)}.")
        self.metric, self.start, self.every, self.monitor, self.flip = metric, start, every, monitor, flip
        self.scores: dict[str, Scores] = {}
        self.embeddings: Tensor | None = None  # (N, D) of the last test, in the catalogue's order

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        due = epoch >= self.start and (epoch - self.start) % self.every == 0
        trainer.check_val_every_n_epoch = 1 if due else NEVER

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        self.metric.update(outputs, batch.index)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        scores = self.metric.scores()
        self.metric.reset()
        for setting, score in scores.items():
            for name in ("r1", "r10", "mAP", "mINP"):
                module.log(f"val/{setting}/{name}", float(getattr(score, name)))
        monitored = self.monitor or list(scores)
        module.log(MONITOR, sum(float(scores[setting].r1) for setting in monitored) / len(monitored))

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        if self.flip:
            with trainer.precision_plugin.forward_context():
                outputs = (outputs + module(batch.images.flip(-1))) / 2
        self.metric.update(outputs, batch.index)

    def on_test_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.embeddings = self.metric.embeddings()
        self.scores = self.metric.score(self.embeddings)
        self.metric.reset()
