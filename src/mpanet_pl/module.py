"""MPANet as a Lightning module: one training step, its optimiser, what it logs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from mpanet_pl.data.catalogue import Batch
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.callback import RetrievalScoring
from mpanet_pl.losses import MPANetLoss
from mpanet_pl.losses.motion import draw_motions, move
from mpanet_pl.network import Embedding, MPANet
from mpanet_pl.network.patterns import LocalMaps
from mpanet_pl.optim import Span, build_optimizer, build_schedule
from mpanet_pl.optim.optimizers import LR
from mpanet_pl.system import weights
from mpanet_pl.system.collective import gather
from mpanet_pl.system.targets import TARGET, build, fitting, named
from mpanet_pl.system.trust import check, ran_here


class MPANetModule(pl.LightningModule):
    """MPANet, its losses, its optimiser and what it logs; trained, validated and tested by any `pl.Trainer`.

    It takes plain mappings, because a checkpoint remembers plain values: what it saves rebuilds it.

    Args:
        num_identities: people in the training split, at least 1; a batch's identities are below it.
        network: `MPANet`'s keywords:

            - `trunk`: a torchvision ResNet, `resnet18_thin` or `timm/NAME` (`resnet50`)
            - `pretrained`: true for ImageNet's weights, a path to a state dict, false (true)
            - `last_stride`: 1 or 2 (1)
            - `alleviation`: stages of layer1 … layer4, `[]` for none (`[layer3, layer4]`)
            - `patterns`: 0 or more (6)
            - `maps`: deep or local (deep)
            - `pooling`: mean or gem (mean)
            - `two_stream`: stem, layer1 … layer4 or None (None)
        criterion: `MPANetLoss`'s keywords. Weights, 0 or more, where 0 removes a term: `identity` (1),
            `modality_identity` (1), `mutual` (2.5), `center_cluster` (1), `separation` (0.5), `triplet`, `overlap`,
            `concentration`, `equivariance` (0). And `mean_rate`, 0 to 1 (0.2); `margin` (0.7) and `triplet_margin`
            (0.3), 0 or more; `extra`, terms of your own.
        optimizer: `build_optimizer`'s settings: `name` (adam, adamw or sgd; adam), its keywords such as `lr` (0.001)
            and `weight_decay`, 0 or more, and `trunk_lr`; or `_target_`.
        schedule: `build_schedule`'s settings: `name` (steps, cosine or onecycle; steps) and its keywords, such as
            `milestones`, a list of epochs; or `_target_`.

    Raises:
        UserError: a value outside its range, in a sentence that names it; those of the optimiser and the schedule when
            a trainer asks for them.
        TypeError: a keyword that `MPANet` or `MPANetLoss` does not have.

    `network` and `criterion` may be classes of your own, by `_target_`:

    - a network maps normalised images (B, 3, H, W) to an `Embedding(maps, descriptor, embedding)` and has `dimension`,
      the width of the last two; `maps` (B, P, h, w) may be of no pattern. With a true attribute `two_stream` it is
      called with (images, infrared);
    - a criterion is made of (dimension, num_identities, …), maps (embedding, identities, infrared) to named scalar
      terms with their weighted sum `total`; has `weights` by name, `follow(epoch)`, called before each step of the
      optimiser, `follow_rate(epoch)`, and `accuracy(embedding, identities)` where it has a weight for "identity".
      `MPANetLoss` is a base that has them all.

    Examples:
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
        own = {} if type(self) is MPANetModule else {TARGET: _name(type(self))}
        self.save_hyperparameters(
            {
                **own,  # a subclass: what a checkpoint makes again
                "num_identities": num_identities,
                "network": {**network, "pretrained": False},  # a checkpoint brings its own weights
                "criterion": dict(criterion),
                "optimizer": dict(optimizer),
                "schedule": dict(schedule),
            }
        )
        self.network = _made(MPANet, network, "model.network")
        self.criterion = _made(MPANetLoss, criterion, "model.criterion", self.network.dimension, num_identities)
        if not getattr(self.criterion, "classifies", True) and hasattr(self.network, "neck"):
            self.network.neck.requires_grad_(False)  # no term sees what is behind it

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        return self.embed(images, infrared).embedding

    def embed(self, images: Tensor, infrared: Tensor | None = None) -> Embedding:
        """What the network makes of images; of which of them are infrared it is told where it has two streams."""
        return self.network(images, infrared) if self.two_stream else self.network(images)

    @property
    def two_stream(self) -> bool:
        """Whether the network has to be told which images are infrared."""
        return bool(getattr(self.network, "two_stream", None))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The loss terms of the batch, together with the batches of the other ranks, and their weighted `total`."""
        return self.criterion(*self._everyone(batch), **self._context(batch))

    def _everyone(self, batch: Batch) -> tuple[Embedding, Tensor, Tensor]:
        embedding = Embedding(*map(gather, self.embed(batch.images, batch.infrared)))
        return embedding, gather(batch.identities), gather(batch.infrared)

    def _context(self, batch: Batch) -> dict[str, Any]:
        """What the criterion asks for beyond embeddings, identities and modality."""
        known = {
            "cameras": lambda: gather(batch.cameras),
            "index": lambda: gather(batch.index),
            "epoch": lambda: self.current_epoch + 1,
            "moved": lambda: self._moved(batch),
        }
        return {name: known[name]() for name in getattr(self.criterion, "wants", ())}

    def _moved(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Maps of the images moved at random, and the motions."""
        motions = draw_motions(len(batch.images), batch.images.device)
        images = move(batch.images, motions, continued=True)
        if isinstance(self.network, MPANet):
            return gather(self.network.look(images, batch.infrared)), gather(motions)
        return gather(self.embed(images, batch.infrared).maps), gather(motions)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        epoch = self.current_epoch + 1
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.criterion.follow(epoch)
            if isinstance(getattr(self.network, "patterns", None), LocalMaps):
                self.network.patterns.sharpen(self.trainer.global_step / self._steps())
        embedding, identities, infrared = self._everyone(batch)
        terms = self.criterion(embedding, identities, infrared, **self._context(batch))
        detached = {name: term.detach() for name, term in terms.items()}
        self._log(detached | self._accuracy(embedding, identities), epoch)
        return {"loss": terms["total"], "terms": detached}

    def _accuracy(self, embedding: Embedding, identities: Tensor) -> dict[str, Tensor]:
        if not self.criterion.weights.get("identity"):
            return {}
        return {"accuracy": self.criterion.accuracy(embedding.embedding, identities)}

    def _log(self, values: dict[str, Tensor], epoch: int) -> None:
        plain = {"alpha": self.criterion.follow_rate(epoch)}
        if optimizers := self.trainer.optimizers:
            plain["lr"] = optimizers[0].param_groups[0]["lr"]
        on_cpu = {name: torch.tensor(value) for name, value in plain.items()}  # a float would be copied to the device
        self.log_dict({f"train/{name}": value for name, value in (values | on_cpu).items()}, on_step=True)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Scores of validation and test by the protocol of the data module's dataset, unless the trainer has some."""
        given = any(isinstance(callback, RetrievalScoring) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        return [] if given else [RetrievalScoring()]

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self(batch.images, batch.infrared)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self(batch.images, batch.infrared)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch.images, batch.infrared)

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
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, *, trust: str | Sequence[str] = (), **keywords: Any
    ) -> "MPANetModule":
        """The module that a checkpoint holds, from the file alone.

        It may name classes of this package, of those that `trust` names, and those of a run that this user trained.
        """
        content = weights.read(checkpoint_path)
        stored = content.get("hyper_parameters")
        if not isinstance(stored, Mapping) or not isinstance(stored.get("network"), Mapping):
            raise UserError(f"{checkpoint_path} is no checkpoint of MPANetModule: it has no hyper_parameters.")
        weights.check_numbers(content.get("state_dict"), checkpoint_path)
        known = ran_here(Path(checkpoint_path).absolute().parent.parent) | {_name(cls)}
        check(stored, str(checkpoint_path), trust, known)
        if cls is MPANetModule and TARGET in stored:
            own: Any = named(stored[TARGET], str(checkpoint_path))
            return own.load_from_checkpoint(checkpoint_path, trust=trust, **keywords)
        network = {"network": {**stored["network"], "pretrained": False}}
        keywords = {"map_location": "cpu", "weights_only": True, **network, **keywords}
        try:
            return super().load_from_checkpoint(checkpoint_path, **keywords)
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise UserError(f"{checkpoint_path} is no whole checkpoint of MPANetModule: {error}") from error


def _made(usual: type[nn.Module], settings: Mapping[str, Any], key: str, *arguments: Any) -> Any:
    """The usual class of its keywords; or one that `_target_` names, of those of the usual keywords that it takes."""
    if TARGET not in settings:
        return usual(*arguments, **settings)
    return build(fitting(settings, usual, key), key, *arguments)


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _finite(length: float) -> float:
    if not 0 < length < math.inf:
        raise UserError("A schedule over the whole run needs to know its length: set trainer.max_epochs.")
    return length
