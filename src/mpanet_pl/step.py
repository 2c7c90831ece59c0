"""What a criterion sees of a training step: the rows of every rank, branch by branch, and what it asks for beside.

What a step of prediction gives stands here, too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from mpanet_pl.data.catalogue import Batch
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.callback import RetrievalScoring, a_row_a_track, named
from mpanet_pl.interfaces import STEP, Embedding, branches_of, looks, named_by
from mpanet_pl.optim import Span
from mpanet_pl.system.collective import gather
from mpanet_pl.system.precision import precise
from mpanet_pl.system.statistics import running_statistics_kept


class Prediction(NamedTuple):
    """Of B images, or tracklets: what `Trainer.predict` gives for a batch."""

    embeddings: Tensor  # (B, D)
    rows: Tensor  # (B,) of the loader's catalogue
    paths: tuple[str, ...]  # relative to the dataset's folder; () where the loader does not say whose images it holds
    identities: Tensor  # (B,)
    cameras: Tensor  # (B,)
    infrared: Tensor  # (B,) bool


def people_to_train_on(module: Any, stage: str | None) -> int | None:
    """How many the criterion is to be made for, where it is not made yet; says what will not go together."""
    trainer = module.trainer
    if stage != "predict" and not any(isinstance(callback, RetrievalScoring) for callback in trainer.callbacks):
        rank_zero_warn("Nothing will be scored: let configure_callbacks add what super().configure_callbacks() gives.")
    counted: int | None = getattr(getattr(trainer, "datamodule", None), "num_identities", None)
    if module.criterion is None:
        if counted is None:
            raise UserError("How many people are there to train on? Say num_identities, or give a ReIDDataModule.")
        return counted
    known = module.hparams["num_identities"]
    if stage == "fit" and counted is not None and counted > known:
        raise UserError(f"The module was made for {known} people, the data has {counted}: leave num_identities out.")
    return None


def normalised(images: Tensor) -> Tensor:
    """The images themselves; pixels of 0 to 255, as loaders give them, are refused."""
    if images.dtype == torch.uint8:
        raise UserError(
            "The network was given pixels of 0 to 255: give the trainer the ReIDDataModule, or pass batches "
            "through its `normalise_batch` (`augment_batch` in training) first."
        )
    return images


def predicted(module: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Prediction:
    """A batch's embeddings with what is known of its images."""
    found = module(batch.images, batch.infrared, batch.cameras, batch.frames)
    embeddings, index = a_row_a_track(found, batch)
    loaders = getattr(module._trainer, "predict_dataloaders", None)
    _, loader = named(loaders)[dataloader_idx]
    catalogue = getattr(getattr(loader, "dataset", None), "catalogue", None)
    paths = () if catalogue is None else tuple(catalogue.paths[row] for row in index.tolist())
    every = slice(None, None, batch.frames or 1)
    return Prediction(embeddings, index, paths, batch.identities[every], batch.cameras[every], batch.infrared[every])


def terms_of(module: Any, batch: Batch) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The criterion's terms, and the embeddings and identities of every rank's rows that they are of."""
    seen, identities, infrared = everyone(module, batch)
    terms = module.criterion(seen, identities, infrared, **asked_of_step(module, batch))
    return terms, precise(seen.embedding), identities


def logged(module: Any, terms: dict[str, Tensor], embedding: Tensor, identities: Tensor) -> dict[str, Tensor]:
    """What the log holds of a step, by its names there."""
    plain = {}
    if rate := getattr(module.criterion, "follow_rate", None):
        plain["alpha"] = rate(module.current_epoch + 1)
    if optimizers := module.trainer.optimizers:
        plain["lr"] = optimizers[0].param_groups[0]["lr"]
    on_cpu = {name: torch.tensor(value) for name, value in plain.items()}  # a float would be copied to the device
    accuracy = getattr(module.criterion, "accuracy", lambda *_: None)(embedding, identities)
    values = terms | ({} if accuracy is None else {"accuracy": accuracy}) | on_cpu
    return {f"train/{name}": value for name, value in values.items()}


def everyone(module: Any, batch: Batch) -> tuple[Embedding, Tensor, Tensor]:
    """Embedding, identities and infrared of every rank's rows."""
    seen = module.embed(batch.images, batch.infrared, batch.cameras, batch.frames)
    rows, expected = len(seen.embedding), len(batch.images) * _branches(module)
    if rows != expected:
        raise UserError(
            f"{type(module.network).__name__} gives {rows} rows for {len(batch.images)} images where "
            f"{type(module.criterion).__name__} expects {expected}: let its `branches` say how many each image has."
        )
    if (width := seen.embedding.shape[1]) != module.network.dimension:
        raise UserError(
            f"{type(module.network).__name__} gives {width} numbers a row, its `dimension` is "
            f"{module.network.dimension}: losses are of a network in training (module.train())."
        )
    everyones = (_by_branch(gather(of), len(of), _branches(module) if len(of) == rows else 1) for of in seen)
    return type(seen)(*everyones), _labels(module, batch.identities), _labels(module, batch.infrared)


def asked_of_step(module: Any, batch: Batch) -> dict[str, Any]:
    """Those of `Step`'s fields that the module's criterion asks for."""
    offered: dict[str, Callable[[], Any]] = {
        "cameras": lambda: _labels(module, batch.cameras),
        "index": lambda: _labels(module, batch.index),
        "epoch": lambda: module.current_epoch + 1,
        "progress": lambda: module.trainer.global_step / Span.of(lambda: module.trainer).steps(),
        "images": lambda: batch.images,
        "look": lambda: _look(module, batch.infrared),
    }
    asks = getattr(module.criterion, "asks", None)
    asks = named_by(module.criterion.forward, STEP) if asks is None else asks
    return {name: offered[name]() for name in asks}


def _branches(module: LightningModule) -> int:
    return branches_of(module.network) if module.training else 1


def _by_branch(gathered: Tensor, rows: int, branches: int) -> Tensor:
    """From `rows` of each rank, one rank after the other, to one branch after the other."""
    return gathered.unflatten(0, (-1, branches, rows // branches)).transpose(0, 1).flatten(0, 2)


def _labels(module: LightningModule, column: Tensor) -> Tensor:
    return gather(column).repeat(_branches(module))


def _look(module: Any, infrared: Tensor) -> Callable[[Tensor], Tensor]:
    """This rank's images to every rank's maps, in the step's own precision, without updating statistics."""
    device = infrared.device.type
    as_outside = torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))

    def look(images: Tensor) -> Tensor:
        with as_outside, running_statistics_kept(module.network):
            return gather(looks(module.network, images, infrared))

    return look
