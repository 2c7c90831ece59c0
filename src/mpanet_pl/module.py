"""MPANet as a Lightning module: one training step, its optimiser, what it logs."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from mpanet_pl.data.catalogue import Batch
from mpanet_pl.errors import UserError
from mpanet_pl.losses import MPANetLoss
from mpanet_pl.network import Embedding, MPANet
from mpanet_pl.optim import Span, build_optimizer, build_schedule
from mpanet_pl.optim.optimizers import LR
from mpanet_pl.system import weights
from mpanet_pl.system.collective import gather


class MPANetModule(pl.LightningModule):
    """Takes plain mappings, because a checkpoint remembers plain values: what it saves rebuilds it.

    `network` and `criterion` hold the keywords of `MPANet` and `MPANetLoss`, `optimizer` and `schedule` what
    `build_optimizer` and `build_schedule` take.
    """

    def __init__(
        self,
        num_identities: int,
        *,
        network: Mapping[str, Any],
        criterion: Mapping[str, Any],
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.save_hyperparameters(
            {
                "num_identities": num_identities,
                "network": {**network, "pretrained": False},  # a checkpoint brings its own weights
                "criterion": dict(criterion),
                "optimizer": dict(optimizer),
                "schedule": dict(schedule),
            }
        )
        self.network = MPANet(**network)
        self.criterion = MPANetLoss(self.network.dimension, num_identities, **criterion)
        if not self.criterion.classifies:
            self.network.neck.requires_grad_(False)  # no term sees what is behind it

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).embedding

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The loss terms of the batch, together with the batches of the other ranks, and their weighted `total`."""
        return self.criterion(*self._everyone(batch), **self._context(batch))

    def _everyone(self, batch: Batch) -> tuple[Embedding, Tensor, Tensor]:
        embedding = Embedding(*map(gather, self.network(batch.images)))
        return embedding, gather(batch.identities), gather(batch.infrared)

    def _context(self, batch: Batch) -> dict[str, Tensor | int]:
        """What the criterion asks for beyond embeddings, identities and modality."""
        known = {"cameras": batch.cameras, "index": batch.index}
        wants = getattr(self.criterion, "wants", ())
        return {name: self.current_epoch + 1 if name == "epoch" else gather(known[name]) for name in wants}

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        epoch = self.current_epoch + 1
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.criterion.follow(epoch)
        embedding, identities, infrared = self._everyone(batch)
        terms = self.criterion(embedding, identities, infrared, **self._context(batch))
        detached = {name: term.detach() for name, term in terms.items()}
        self._log(detached | self._accuracy(embedding, identities), epoch)
        return {"loss": terms["total"], "terms": detached}

    def _accuracy(self, embedding: Embedding, identities: Tensor) -> dict[str, Tensor]:
        if not self.criterion.weights["identity"]:
            return {}
        return {"accuracy": self.criterion.accuracy(embedding.embedding, identities)}

    def _log(self, values: dict[str, Tensor], epoch: int) -> None:
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        plain = {"alpha": self.criterion.follow_rate(epoch), "lr": lr}
        on_cpu = {name: torch.tensor(value) for name, value in plain.items()}  # a float would be copied to the device
        self.log_dict({f"train/{name}": value for name, value in (values | on_cpu).items()}, on_step=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch.images)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch.images)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch.images)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        settings = self.hparams["optimizer"]
        if settings.get("fused") and self._clips() and self._is_mixed():
            raise UserError(
                "model.optimizer.fused=true does not go with trainer.gradient_clip_val in mixed precision: drop it."
            )
        optimizer = build_optimizer(self, settings, fused=not self._clips())
        span = Span(epochs=self._epochs, steps=self._steps)
        return {"optimizer": optimizer, "lr_scheduler": build_schedule(optimizer, self.hparams["schedule"], span)}  # type: ignore[typeddict-item]

    def _clips(self) -> bool:
        """Whether gradients are clipped, which Lightning refuses for a fused optimiser in mixed precision."""
        return self._trainer is not None and bool(self._trainer.gradient_clip_val)

    def _is_mixed(self) -> bool:
        return self._trainer is not None and "mixed" in str(self._trainer.precision)

    def _epochs(self) -> float:
        return _finite(self.trainer.max_epochs or -1)

    def _steps(self) -> float:
        return _finite(self.trainer.estimated_stepping_batches)

    @property
    def lr(self) -> float:
        """The optimiser's learning rate, where Lightning's Tuner looks for it and puts the one that it found."""
        return self.hparams["optimizer"].get("lr", LR)

    @lr.setter
    def lr(self, lr: float) -> None:
        self.hparams["optimizer"]["lr"] = lr

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **keywords: Any) -> "MPANetModule":  # type: ignore[override]
        stored = weights.read(checkpoint_path).get("hyper_parameters")
        if not isinstance(stored, Mapping) or not isinstance(stored.get("network"), Mapping):
            raise UserError(f"{checkpoint_path} is no checkpoint of MPANetModule: it has no hyper_parameters.")
        own = {"network": {**stored["network"], "pretrained": False}}
        keywords = {"map_location": "cpu", "weights_only": True, **own, **keywords}
        try:
            return super().load_from_checkpoint(checkpoint_path, **keywords)
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise UserError(f"{checkpoint_path} is no whole checkpoint of MPANetModule: {error}") from error


def _finite(length: float) -> float:
    if not 0 < length < math.inf:
        raise UserError("A schedule over the whole run needs to know its length: set trainer.max_epochs.")
    return length
