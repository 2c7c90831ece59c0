"""From a dataset on disk to batches on the device: `ReIDDataModule`.

    data = ReIDDataModule(SYSU(root), height=384, width=128, identities_per_batch=16, images_per_identity=8)
    data.setup()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(0)  # each epoch draws other batches
    for batch in loader:
        images = data.augmentation(batch.images, batch.index, batch.infrared, seed=1, epoch=0)

With a Lightning trainer the epoch and the last line are its business: loaders yield uint8, augmented on the device.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from mpanet_pl.data.augment import Augmentation, normalise
from mpanet_pl.data.cache import open_images
from mpanet_pl.data.catalogue import Batch, Catalogue, Dataset, Splits
from mpanet_pl.data.images import Images
from mpanet_pl.data.sampler import EvaluationBatches, Rows, TrainingBatches
from mpanet_pl.errors import UserError
from mpanet_pl.system.cores import usable_cores


class ReIDDataModule(LightningDataModule):
    """Balanced training batches, and all test images in one loader: validation, test and prediction are the same.

    A batch has `identities_per_batch` × `images_per_identity` images over all ranks. `sampler` is "balanced",
    "uniform" or "random" (see `sampler.py`), `augment` holds `Augmentation`'s fields. `workers` are processes that
    fetch ahead; None means none with the cache, from which a batch takes milliseconds, and one per core without it,
    shared among the ranks of a machine.
    """

    train: Catalogue
    test: Catalogue

    def __init__(
        self,
        dataset: Dataset,
        *,
        height: int,
        width: int,
        identities_per_batch: int,
        images_per_identity: int,
        sampler: str = "balanced",
        augment: Mapping[str, Any] | None = None,
        eval_batch_size: int = 128,
        workers: int | None = None,
        cache: bool | str = True,
        seed: int = 1,
    ) -> None:
        super().__init__()
        for name, least, value in [
            ("height", 1, height),
            ("width", 1, width),
            ("eval_batch_size", 1, eval_batch_size),
            ("workers", 0, workers),
            ("seed", 0, seed),
        ]:
            if value is not None and value < least:
                raise UserError(f"data.{name} must be at least {least}, got {value}.")
        self.dataset = dataset
        self.height = height
        self.width = width
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.sampler = sampler
        self.augmentation = _augmentation(augment or {})
        self.eval_batch_size = eval_batch_size
        self.workers = workers
        self.cache = cache
        self.seed = seed

    @property
    def num_identities(self) -> int:
        """Of the training split; known after `setup`."""
        return self.train.num_identities

    @property
    def _is_read(self) -> bool:
        return hasattr(self, "_images")

    def prepare_data(self) -> None:
        """Make the folder where the dataset can be made, and the cache; on one process per node."""
        if self._is_read:
            return
        self.dataset.prepare()
        if self.cache:
            self._open(self.dataset.read())

    def setup(self, stage: str | None = None) -> None:
        """Read the splits and map the images: `train`, `test` and the loaders exist from here on."""
        if self.trainer is not None:
            _refuse_overfitting(self.trainer)
        if self._is_read:  # what is trained, scored and pictured is one and the same reading of the disk
            return
        splits = self.dataset.read()
        self.train, self.test = splits.train, splits.test
        self._images = self._open(splits)

    def training_batches(self, rank: int = 0, world: int = 1) -> TrainingBatches:
        """A rank's rows of each batch; raises a `UserError` where the training split cannot fill such batches."""
        return TrainingBatches(
            self.train,
            identities_per_batch=self.identities_per_batch,
            images_per_identity=self.images_per_identity,
            sampler=self.sampler,
            seed=self.seed,
            rank=rank,
            world=world,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        batches = self.training_batches(*self._rank_and_world())
        if self.trainer is not None:
            batches.set_epoch(_next_epoch(self.trainer))
        return self._loader(self.train, batches)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The test images: the released recipe selects its best epoch on them, and results say so."""
        return self.test_dataloader()

    def test_dataloader(self) -> DataLoader[Batch]:
        rank, world = self._rank_and_world()
        return self._loader(self.test, EvaluationBatches(self.test, self.eval_batch_size, rank=rank, world=world))

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment in training, otherwise normalise; the batch is on its device here."""
        assert self.trainer is not None
        if not self.trainer.training:
            return batch._replace(images=normalise(batch.images))
        images = self.augmentation(
            batch.images,
            batch.index,
            batch.infrared,
            seed=self.seed,
            epoch=self.trainer.current_epoch,
            occurrence=batch.occurrence,
        )
        return batch._replace(images=images)

    def images(self, catalogue: Catalogue) -> Images:
        """The uint8 images of `train` or `test`, by row."""
        return self._images.of(catalogue.paths)

    def _rank_and_world(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _workers(self) -> int:
        if self.workers is not None:
            return self.workers
        if self.cache:
            return 0
        ranks_here = self.trainer.num_devices if self.trainer is not None else 1
        return max(1, usable_cores() // ranks_here)

    def _open(self, splits: Splits) -> Images:
        paths = splits.train.paths + splits.test.paths
        return open_images(self.dataset.root, paths, self.height, self.width, cache=self.cache)

    def _loader(self, catalogue: Catalogue, batches: Sampler[Any]) -> DataLoader[Batch]:
        workers = self._workers()
        if workers == 0:  # the trainer would advise against what is the fastest here
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
        return DataLoader(
            _Rows(self.images(catalogue), catalogue),
            sampler=batches,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


class _Rows(TorchDataset[Batch]):
    """A catalogue's images, fetched by the batch."""

    def __init__(self, images: Images, catalogue: Catalogue) -> None:
        self.images = images
        self.identities: Tensor = catalogue.identities
        self.cameras: Tensor = catalogue.cameras
        self.infrared: Tensor = catalogue.infrared

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: list[int]) -> Batch:
        index = torch.tensor(rows, dtype=torch.int64)
        occurrence = torch.tensor(rows.occurrence) if isinstance(rows, Rows) else torch.zeros_like(index)
        columns = self.identities[index], self.cameras[index], self.infrared[index]
        return Batch(self.images[index], *columns, index, occurrence)


def _refuse_overfitting(trainer: Trainer) -> None:
    if trainer.overfit_batches:  # type: ignore[attr-defined]  # set by a helper of the trainer's
        raise UserError("overfit_batches would replace the samplers by its own: use limit_train_batches instead")


def _next_epoch(trainer: Trainer) -> int:
    """Workers fetch ahead once the loader is iterated, which a resumed trainer does before it tells the sampler."""
    return trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]  # typed by its base class


def _augmentation(settings: Mapping[str, Any]) -> Augmentation:
    known = [field.name for field in fields(Augmentation)]
    if unknown := [name for name in settings if name not in known]:
        raise UserError(f"augment has no {', '.join(unknown)}; it has {', '.join(known)}")
    return Augmentation(**settings)
