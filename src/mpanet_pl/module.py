"""A cross-modality network as a Lightning module: one training step, its optimiser, what it logs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, TypeAlias

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from mpanet_pl.data.catalogue import Batch
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.callback import RetrievalScoring
from mpanet_pl.interfaces import Embedding, asked_by, checked
from mpanet_pl.losses import MPANetLoss
from mpanet_pl.network import MPANet
from mpanet_pl.optim import Span, build_optimizer, build_schedule, optimizers, schedules
from mpanet_pl.optim.optimizers import LR
from mpanet_pl.step import logged, normalised, people_to_train_on, predicted, terms_of
from mpanet_pl.stored import dotted, restored
from mpanet_pl.system import weights
from mpanet_pl.system.hints import Part
from mpanet_pl.system.precision import at_least_float32
from mpanet_pl.system.targets import TARGET, usual_or_own

FIELDS = ("embedding", "descriptor")  # of an embedding, by which images can be searched

Maybe: TypeAlias = Tensor | None


class MPANetModule(pl.LightningModule):
    """MPANet, or another network and criterion, trained, validated and tested by any `pl.Trainer`.

    It takes plain mappings, because a checkpoint remembers plain values: what it saves rebuilds it.

    Args:
        num_identities: people in the training split, at least 1; a batch's identities are below it. None: as many as
            the trainer's data module has.
        network: keywords of `mpanet_pl.network.MPANet`, or a `mpanet_pl.interfaces.Network` by `_target_`.
        criterion: keywords of `mpanet_pl.losses.MPANetLoss`, or a `mpanet_pl.interfaces.Criterion` by `_target_`.
        optimizer: settings of `mpanet_pl.optim.build_optimizer`.
        schedule: settings of `mpanet_pl.optim.build_schedule`; None: the rate stays.

    Examples:
        >>> import torch
        >>> module = MPANetModule(
        ...     4,
        ...     network={"trunk": "resnet18_thin", "pretrained": False, "patterns": 2},
        ...     criterion={"separation": 0.0},
        ...     optimizer={"lr": 1e-3},
        ...     schedule={"milestones": [10]},
        ... )
        >>> module.eval()(torch.zeros(2, 3, 64, 32)).shape
        torch.Size([2, 384])
    """

    scored = "embedding"  # the field of an embedding that is searched by; see `score_by`

    def __init__(
        self,
        num_identities: int | None = None,
        *,
        network: Annotated[Mapping[str, Any], Part(MPANet)],
        criterion: Annotated[Mapping[str, Any], Part(MPANetLoss)],
        optimizer: Annotated[Mapping[str, Any], optimizers.KEYS],
        schedule: Annotated[Mapping[str, Any] | None, schedules.KEYS],
    ) -> None:
        super().__init__()
        own = {} if type(self) is MPANetModule else {TARGET: dotted(type(self))}
        self.save_hyperparameters(
            {
                **own,  # a subclass: what a checkpoint makes again
                "num_identities": num_identities,
                "network": {**network, "pretrained": False},  # a checkpoint brings its own weights
                "criterion": dict(criterion),
                "optimizer": dict(optimizer),
                "schedule": {"name": "none"} if schedule is None else dict(schedule),
            }
        )
        self.network = checked(usual_or_own(MPANet, network, "model.network"), "model.network")
        self.asks = asked_by(self.network)
        self.criterion: Any = None
        if num_identities is not None:
            self._make_criterion(num_identities)

    def setup(self, stage: str | None = None) -> None:
        if (counted := people_to_train_on(self, stage)) is not None:
            self._make_criterion(counted)

    def _make_criterion(self, num_identities: int) -> None:
        self.hparams["num_identities"], settings = num_identities, self.hparams["criterion"]
        sizes = self.network.dimension, num_identities
        self.criterion = usual_or_own(MPANetLoss, settings, "model.criterion", *sizes)
        if not getattr(self.criterion, "classifies", True) and hasattr(self.network, "neck"):
            self.network.neck.requires_grad_(False)  # no term sees what is behind it

    def forward(
        self, images: Tensor, infrared: Maybe = None, cameras: Maybe = None, frames: int | None = None
    ) -> Tensor:
        """What search compares of images, one row each in evaluation."""
        return getattr(self.embed(images, infrared, cameras, frames), self.scored)

    def embed(
        self, images: Tensor, infrared: Maybe = None, cameras: Maybe = None, frames: int | None = None
    ) -> Embedding:
        offered = {"cameras": cameras, "frames": frames or 1}
        asked = {name: value for name, value in offered.items() if name in self.asks}
        return self.network(normalised(images), infrared, **asked)

    def score_by(self, field: str) -> None:
        """Search by the `embedding`, or by the `descriptor` before the neck."""
        if field not in FIELDS:
            raise UserError(f"embedding is one of {', '.join(FIELDS)}, got {field}.")
        self.scored = field

    def losses(self, batch: Batch | tuple[Any, ...]) -> dict[str, Tensor]:
        """The loss terms of the batch, together with the batches of the other ranks, and their weighted `total`.

        A plain tuple has `Batch`'s fields in their order. What follows the weights moves by `criterion.follow(epoch)`.
        """
        whole: Any = batch if hasattr(batch, "images") else Batch(*batch)
        return terms_of(self, whole)[0]

    def on_fit_start(self) -> None:
        self.criterion.to(at_least_float32(next(self.network.parameters()).dtype))  # under true half precision, too

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        follow = getattr(self.criterion, "follow", None)
        if follow and batch_idx % self.trainer.accumulate_grad_batches == 0:
            follow(self.current_epoch + 1)
        terms, embedding, identities = terms_of(self, batch)
        detached = {name: term.detach() for name, term in terms.items()}
        self.log_dict(logged(self, detached, embedding, identities), on_step=True)
        return {"loss": terms["total"], "terms": detached}

    def configure_callbacks(self) -> list[pl.Callback]:
        """Scores of validation and test by the protocol of the data module's dataset, unless the trainer has some."""
        given = any(isinstance(callback, RetrievalScoring) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        return [] if given else [RetrievalScoring()]

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self(batch.images, batch.infrared, batch.cameras, batch.frames)

    test_step, predict_step = validation_step, predicted

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Which images the network takes is kept with it, whoever's trainer saves."""
        if images := getattr(getattr(self._trainer, "datamodule", None), "images_are", None):
            checkpoint["images"] = images

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        settings, clips = self.hparams["optimizer"], self._trainer is not None and bool(self.trainer.gradient_clip_val)
        if settings.get("fused") and clips and "mixed" in str(self.trainer.precision):  # which Lightning refuses
            raise UserError("model.optimizer.fused=true does not clip gradients in mixed precision: leave it out.")
        optimizer = build_optimizer(self, settings, fused=not clips)
        schedule = build_schedule(optimizer, self.hparams["schedule"], Span.of(lambda: self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": schedule}  # type: ignore[typeddict-item]

    @property
    def lr(self) -> float:
        """The optimiser's learning rate, where Lightning's Tuner looks for it and puts the one that it found."""
        return self.hparams["optimizer"].get("lr", LR)

    @lr.setter
    def lr(self, lr: float) -> None:
        self.hparams["optimizer"]["lr"] = lr

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path | IO[bytes],
        map_location: Any = "cpu",
        *,
        trust: str | Sequence[str] = (),
        **keywords: Any,
    ) -> "MPANetModule":
        """The module that a checkpoint holds, from the file alone; it may call this package's and trusted classes."""
        keywords.pop("weights_only", None)  # always
        place = str(getattr(checkpoint_path, "name", checkpoint_path))
        return restored(cls, weights.read(checkpoint_path), place, trust=trust, **keywords).to(map_location or "cpu")
