"""Scores while Lightning validates and tests: the embeddings that the steps return meet a protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from mpanet_pl.data import Batch, Catalogue, ReIDDataModule
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.metric import ReIDMetric
from mpanet_pl.evaluation.outcomes import NAMES
from mpanet_pl.evaluation.protocols import protocol_of
from mpanet_pl.evaluation.scoring import Scores
from mpanet_pl.interfaces import Reranker, RetrievalProtocol

MONITOR = "val/monitor"


class RetrievalScoring(pl.Callback):
    """Logs `val/SETTING/SCORE` and `test/SETTING/SCORE` in percent, for any logger, callback and sweeper.

    A step returns its batch's embeddings (B, D). The protocol is that of the data module's dataset unless given.
    `val/monitor` is the mean of what `monitor` names: settings (their rank-1) or SETTING/SCORE; None: all settings.
    With `flip`, a test embedding is the mean over the image and its mirror image. Images that a limited number of
    batches leaves out are left out of the scores, too.
    """

    def __init__(
        self,
        protocol: RetrievalProtocol | None = None,
        *,
        monitor: Sequence[str] | None = None,
        flip: bool = False,
        rerank: Reranker | None = None,
    ) -> None:
        self.protocol, self.monitor, self.flip, self.rerank = protocol, monitor, flip, rerank
        self.metric: ReIDMetric | None = None  # None: whose images these are is not known, so nothing is scored
        self.scores: dict[str, Scores] = {}
        self.embeddings: Tensor | None = None  # (N, D) of the last whole test, in the catalogue's order
        self.validated: Tensor | None = None  # likewise of the last whole validation on others than the test's

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._begin(trainer, trainer.num_val_batches, "validate", whole=_all(trainer.limit_val_batches))

    def on_test_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._begin(trainer, trainer.num_test_batches, "test", whole=_all(trainer.limit_test_batches))

    def _begin(self, trainer: pl.Trainer, batches: Sequence[int | float], stage: str, *, whole: bool) -> None:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, ReIDDataModule):
            return
        if len(batches) > 1:
            raise UserError(f"{len(batches)} loaders to {stage} on: scores are of one. Run them one after another.")
        catalogue = data.val if stage == "validate" else data.test
        if self.protocol is None:
            self.protocol = protocol_of(data.dataset)
        if self.metric is None or self.metric.catalogue is not catalogue:
            protocol = self.protocol if catalogue is data.test else self.protocol.elsewhere()
            self.metric = ReIDMetric(catalogue, protocol, rerank=self.rerank)
            check_monitor(self.monitor, catalogue, protocol)
        self.metric.reset()
        self.whole = whole

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        if self.metric is not None:
            self.metric.update(outputs, batch.index)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.metric is None or trainer.sanity_checking:
            return
        embeddings, data = self._score(module, "val"), trainer.datamodule  # type: ignore[attr-defined]
        self.validated = None if data.val is data.test else embeddings
        if self.scores:
            module.log(MONITOR, monitored(self.scores, self.monitor), prog_bar=True)

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        if self.metric is None:
            return
        if self.flip:
            with trainer.precision_plugin.forward_context():
                outputs = (outputs + module(batch.images.flip(-1), batch.infrared)) / 2
        self.metric.update(outputs, batch.index)

    def on_test_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.metric is not None:
            self.embeddings = self._score(module, "test")

    def _score(self, module: pl.LightningModule, prefix: str) -> Tensor | None:
        assert self.metric is not None
        embeddings = self.metric.embeddings() if self.whole else None
        if embeddings is None:
            rank_zero_info("Scores are of some of the images: the number of batches is limited.")
            self.scores = self.metric.scores(partial=True)
        else:
            self.scores = self.metric.score(embeddings)
        self.metric.reset()
        for setting, score in self.scores.items():
            module.log_dict({f"{prefix}/{setting}/{name}": value for name, value in score.means.items()})
        return embeddings


def _all(limit: float) -> bool:
    """Of Lightning's limits 1.0 is every batch, 1 the first alone."""
    return isinstance(limit, float) and limit == 1.0


def monitored(scores: Mapping[str, Scores], monitor: Sequence[str] | None) -> float:
    """The mean of the scores that `monitor` names, in percent."""
    named = [setting_and_score(name) for name in monitor or scores]
    return sum(scores[setting].means[score] for setting, score in named) / len(named)


def check_monitor(monitor: Sequence[str] | None, catalogue: Catalogue, protocol: RetrievalProtocol) -> None:
    """Raise a `UserError` where something is to be monitored that will never be scored."""
    settings = [name for search in protocol.searches(catalogue) for name in search.galleries]
    known = {(setting, score) for setting in settings for score in NAMES}
    if unknown := [str(name) for name in monitor or () if setting_and_score(str(name)) not in known]:
        raise UserError(
            f"validation.monitor takes {', '.join(settings)}, or one of these with /{', /'.join(NAMES)}, "
            f"got {', '.join(unknown)}."
        )


def setting_and_score(name: str) -> tuple[str, str]:
    """
    >>> setting_and_score("all/single"), setting_and_score("all/single/mAP")
    (('all/single', 'r1'), ('all/single', 'mAP'))
    """
    setting, _, score = name.rpartition("/")
    return (setting, score) if setting and score in NAMES else (name, "r1")
