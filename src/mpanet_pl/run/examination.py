"""Testing a module: its embeddings meet a protocol; what else a dataset knows of its images is asked, too."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pytorch_lightning as pl
from torch import Tensor

from mpanet_pl.data import ReIDDataModule
from mpanet_pl.data.fingerprint import images_digest
from mpanet_pl.evaluation import Scores
from mpanet_pl.evaluation.calibration import Calibration
from mpanet_pl.evaluation.callback import MONITOR, RetrievalScoring
from mpanet_pl.evaluation.digests import digest_of
from mpanet_pl.evaluation.published import Published
from mpanet_pl.evaluation.tables import Grid
from mpanet_pl.module import MPANetModule
from mpanet_pl.run.datasets import unpublished


class GroundTruth(Protocol):
    """What a drawn dataset knows of its test images beyond whom they show: the one hook by which a world joins a run.

    Its callback sees each test; afterwards `scores` of the embeddings (N, D) stand in a line, a table and remarks.
    """

    @property
    def callback(self) -> pl.Callback: ...

    @property
    def boxes(self) -> Tensor:
        """(N, K, 4): what pictures outline in an image, in fractions of it; NaN where it is not visible."""
        ...

    @property
    def labels(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Kind -> name -> (N,) bool: parts of the test images whose queries can be scored by themselves."""
        ...

    def scores(self, embeddings: Tensor) -> dict[str, float]: ...

    def line(self, scores: dict[str, float]) -> str: ...

    def table(self, scores: dict[str, float]) -> Grid: ...

    def remarks(self, scores: dict[str, float]) -> Sequence[str]: ...


GroundTruthOf = Callable[[ReIDDataModule], GroundTruth | None]


def no_ground_truth(data: ReIDDataModule) -> None:
    """A real dataset's."""


class Tested(NamedTuple):
    scores: dict[str, Scores]
    embeddings: Tensor  # (N, D), row by row the test catalogue's
    nuances: dict[str, float] = {}  # noqa: RUF012  # of a dataset that knows them; likewise the next two
    tables: Sequence[Grid] = ()
    remarks: Sequence[str] = ()
    network: str = ""  # digest of what was tested


class Examiner:
    """The callbacks that score the test images of `data`, and the test that reads them."""

    def __init__(
        self, data: ReIDDataModule, scoring: RetrievalScoring, ground_truth_of: GroundTruthOf = no_ground_truth
    ) -> None:
        assert scoring.protocol is not None
        self.data, self.scoring, self.protocol = data, scoring, scoring.protocol
        self.ground_truth = ground_truth_of(data)

    @property
    def callbacks(self) -> list[pl.Callback]:
        return [self.scoring, *([self.ground_truth.callback] if self.ground_truth else [])]

    @property
    def published(self) -> Published:
        """What the paper reports under this protocol; nothing for a drawn dataset, or for other test images."""
        return {} if self.ground_truth or self.unlike else self.protocol.published

    @property
    def unlike(self) -> list[str]:
        """Why no published number stands beside, if the test images are others than those of the publications."""
        return unpublished(self.data.dataset, self.data.test)

    @property
    def chance(self) -> str:
        people = self.data.test.num_identities
        return f"chance: {100 / people:.1f} % rank-1 where each of {people} people has as many images"

    @property
    def images(self) -> str | None:
        """Digest of the test images."""
        root = getattr(self.data.dataset, "root", None)
        return images_digest(root, self.data.test.paths) if root else None

    def validate(self, trainer: pl.Trainer, module: MPANetModule) -> float | None:
        """What is monitored of the module as it is; None where no image is validated on."""
        trainer.validate(module, datamodule=self.data, verbose=False)
        score = trainer.callback_metrics.get(MONITOR)
        return None if score is None else float(score)

    def test(self, trainer: pl.Trainer, module: MPANetModule, checkpoint: Path | None = None) -> Tested:
        """Scores of the module as it is, or with a checkpoint's weights, which stay in it."""
        trainer.test(
            module, datamodule=self.data, ckpt_path=checkpoint, weights_only=True if checkpoint else None, verbose=False
        )
        embeddings = self.scoring.embeddings
        assert embeddings is not None
        network = digest_of(module.network.state_dict().values())
        if self.ground_truth is None:
            return Tested(self.scoring.scores, embeddings, network=network)
        nuances = self.ground_truth.scores(embeddings)
        shown = [self.ground_truth.table(nuances)], self.ground_truth.remarks(nuances)
        return Tested(self.scoring.scores, embeddings, nuances, *shown, network)

    def embed(self, trainer: pl.Trainer, module: MPANetModule) -> Tensor | None:
        """(N, D) of the test images as the data module has them now; None on ranks that do not score."""
        trainer.test(module, datamodule=self.data, verbose=False)
        return self.scoring.embeddings if trainer.is_global_zero else None

    def descriptors(self, trainer: pl.Trainer, module: MPANetModule) -> Tensor | None:
        """(N, D) of the test images before the neck, likewise."""
        scored, module.scored = module.scored, "descriptor"
        found = self.embed(trainer, module)
        module.scored = scored
        return found

    def held_out(self) -> Calibration | None:
        """Of the training people on whom the last validation was, where that was on such people, and of all images."""
        embeddings = self.scoring.validated
        return None if embeddings is None else Calibration(embeddings, self.data.val)
