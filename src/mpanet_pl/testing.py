"""Testing a module: its embeddings meet a protocol; where a dataset knows its nuances, its pattern maps meet them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytorch_lightning as pl
from torch import Tensor

from mpanet_pl.callbacks import NuanceScoring, RetrievalScoring
from mpanet_pl.data import ReIDDataModule
from mpanet_pl.evaluation import Scores
from mpanet_pl.evaluation.annotations import Annotations
from mpanet_pl.evaluation.published import Published
from mpanet_pl.evaluation.siblings import sibling_accuracy
from mpanet_pl.module import MPANetModule


class Tested(NamedTuple):
    scores: dict[str, Scores]
    nuances: dict[str, float]  # empty where the dataset knows nothing of them
    embeddings: Tensor  # (N, D), row by row the test catalogue's


class Examiner:
    """The callbacks that score the test images of `data`, and the test that reads them."""

    def __init__(self, data: ReIDDataModule, scoring: RetrievalScoring) -> None:
        self.data, self.scoring = data, scoring
        self.annotations = Annotations.read(data.dataset.root, data.test)
        self.nuances = NuanceScoring(self.annotations) if self.annotations else None

    @property
    def callbacks(self) -> list[pl.Callback]:
        return [callback for callback in (self.scoring, self.nuances) if callback]

    @property
    def published(self) -> Published:
        """What the paper reports under this protocol; nothing for a drawn dataset."""
        return {} if self.annotations else self.scoring.metric.protocol.published

    @property
    def chance(self) -> str:
        people = self.data.test.num_identities
        return f"chance: {100 / people:.1f} % rank-1 where each of {people} people has as many images"

    def test(self, trainer: pl.Trainer, module: MPANetModule, checkpoint: Path | None = None) -> Tested:
        """Scores of the module as it is, or with a checkpoint's weights."""
        trainer.test(
            module, datamodule=self.data, ckpt_path=checkpoint, weights_only=True if checkpoint else None, verbose=False
        )
        embeddings = self.scoring.embeddings
        assert embeddings is not None
        nuances: dict[str, float] = {}
        if self.nuances and self.annotations:
            nuances = self.nuances.scores | sibling_accuracy(embeddings, self.data.test, self.annotations)
        return Tested(self.scoring.scores, nuances, embeddings)
