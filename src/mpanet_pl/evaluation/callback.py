"""Scores while Lightning validates and tests: the embeddings that the steps return meet a protocol."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from mpanet_pl.data import Batch, Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.metric import ReIDMetric
from mpanet_pl.evaluation.outcomes import NAMES
from mpanet_pl.evaluation.protocols import protocol_of
from mpanet_pl.evaluation.scoring import Scores
from mpanet_pl.interfaces import Reranker, RetrievalProtocol
from mpanet_pl.system.precision import at_least_float32

MONITOR = "val/monitor"


class ScoredLoader(NamedTuple):
    """A loader whose images are known, and the metric that gathers their embeddings."""

    name: str  # "" where there is one loader
    metric: ReIDMetric
    is_test: bool

    @property
    def prefix(self) -> str:
        return f"{self.name}/" if self.name else ""


class RetrievalScoring(pl.Callback):
    """Logs `val/SETTING/SCORE` and `test/SETTING/SCORE` in percent, for any logger, callback and sweeper.

    A step returns its batch's embeddings (B, D). Which images a loader holds, the loader says itself (those of
    `ReIDDataModule` do); it is scored by the protocol of its own dataset unless one is given. Of several loaders the
    names are `test/NAME/SETTING/SCORE`, by a mapping's keys or by their datasets.
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
        self.scored: list[ScoredLoader | None] = []  # by loader; None: whose images these are is not known
        self.scores: dict[str, Scores] = {}
        self.embeddings: Tensor | None = None  # (N, D) of the last whole test, in the catalogue's order
        self.validated: Tensor | None = None  # likewise of the last whole validation on others than the test's

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._begin(trainer.val_dataloaders, "validation", whole=_all(trainer.limit_val_batches))

    def on_test_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._begin(trainer.test_dataloaders, "test", whole=_all(trainer.limit_test_batches))

    def _begin(self, loaders: Any, stage: str, *, whole: bool) -> None:
        before = {(one.name, id(one.metric.catalogue)): one for one in self.scored if one}
        self.scored, self.whole = [], whole
        for name, loader in named(loaders):
            rows = getattr(loader, "dataset", None)
            catalogue = getattr(rows, "catalogue", None)
            if not isinstance(catalogue, Catalogue):
                rank_zero_warn(f"The {stage} loader {name or 'given'} does not say whose images it holds: no scores.")
                self.scored.append(None)
                continue
            one = before.get((name, id(catalogue))) or self._scored_loader(name, catalogue, rows)
            one.metric.reset()
            self.scored.append(one)

    def _scored_loader(self, name: str, catalogue: Catalogue, rows: Any) -> ScoredLoader:
        protocol = self.protocol or protocol_of(rows.source)
        protocol = protocol if rows.is_test else protocol.elsewhere()
        check_monitor(self.monitor, catalogue, protocol)
        return ScoredLoader(name, ReIDMetric(catalogue, protocol, rerank=self.rerank), rows.is_test)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int, idx: int = 0
    ) -> None:
        self._update(outputs, batch, idx)

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int, idx: int = 0
    ) -> None:
        if self.flip and self.scored[idx]:
            with trainer.precision_plugin.forward_context():
                flipped = module(batch.images.flip(-1), batch.infrared, batch.cameras, batch.frames)
            outputs = (outputs + flipped) / 2
        self._update(outputs, batch, idx)

    def _update(self, outputs: Any, batch: Batch, idx: int) -> None:
        if one := self.scored[idx]:
            if not isinstance(outputs, Tensor):
                kind = type(outputs).__name__
                raise UserError(f"The step gives a {kind}: a validation or test step returns embeddings (B, D).")
            one.metric.update(*a_row_a_track(outputs, batch))

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        embeddings = self._score(module, "val")
        held_out = [found for one, found in zip(self.scored, embeddings, strict=True) if one and not one.is_test]
        self.validated = held_out[0] if held_out else None
        if self.scores:
            module.log(MONITOR, monitored(self.scores, self.monitor), prog_bar=True)

    def on_test_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.embeddings = next(iter(self._score(module, "test")), None)

    def _score(self, module: pl.LightningModule, stage: str) -> list[Tensor | None]:
        """Log every loader's scores; the embeddings of those that were seen whole."""
        self.scores, found = {}, []
        for one in self.scored:
            embeddings = one.metric.embeddings() if one and self.whole else None
            found.append(embeddings)
            if one is None:
                continue
            if embeddings is None:
                rank_zero_info("Scores are of some of the images: the number of batches is limited.")
                scores = one.metric.scores(partial=True)
            else:
                scores = one.metric.score(embeddings)
            one.metric.reset()
            self.scores |= {one.prefix + setting: score for setting, score in scores.items()}
        for setting, score in self.scores.items():
            module.log_dict({f"{stage}/{setting}/{name}": value for name, value in score.means.items()})
        return found


def named(loaders: Any) -> list[tuple[str, Any]]:
    """Loaders with the names that tell their scores apart; one alone needs none."""
    if isinstance(loaders, Mapping):
        return [(str(name), loader) for name, loader in loaders.items()]
    if not isinstance(loaders, list | tuple):
        return [("", loaders)]
    if len(loaders) == 1:
        return [("", loaders[0])]
    names = [type(getattr(getattr(one, "dataset", one), "source", one)).__name__.lower() for one in loaders]
    return [
        (name if names.count(name) == 1 else f"{name}{names[: place + 1].count(name)}", loader)
        for place, (name, loader) in enumerate(zip(names, loaders, strict=True))
    ]


def a_row_a_track(embeddings: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Embeddings and rows of a batch; of tracklets the mean over their frames, in float32 or better.

    The neck is affine at test, so that it is the same before the neck as after.
    """
    if not batch.frames:
        return embeddings, batch.index
    tracks = embeddings.unflatten(0, (-1, batch.frames))  # (B, T, D)
    return tracks.mean(1, dtype=at_least_float32(embeddings.dtype)), batch.index[:: batch.frames]


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
