"""From a dataset on disk to batches on the device: `ReIDDataModule`.

    data = ReIDDataModule(SYSU(root), height=384, width=128, identities_per_batch=16, images_per_identity=8)
    data.setup()
    loader = data.train_dataloader()
    for epoch in range(140):
        loader.sampler.set_epoch(epoch)  # each epoch draws other batches
        for batch in loader:
            batch = data.augment_batch(batch, epoch)  # where the batch lies: move it to its device before

A Lightning trainer tells the epoch, moves and augments: loaders yield uint8, augmented on the device.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pytorch_lightning import LightningDataModule, Trainer
from torch import distributed
from torch.utils.data import DataLoader, Sampler

from mpanet_pl.data.augment import Augment, Augmentation, normalise
from mpanet_pl.data.cache import open_splits
from mpanet_pl.data.catalogue import Batch, Catalogue, Dataset, check_labels
from mpanet_pl.data.corruptions import Corrupt, CorruptTraining, Severity, Side
from mpanet_pl.data.draws import DRAWS, Draw, Named
from mpanet_pl.data.images import Images
from mpanet_pl.data.joint import Joint
from mpanet_pl.data.loading import Clips, Corrupted, Pictures, Resumable, RowsOf, StopsWorkers
from mpanet_pl.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from mpanet_pl.data.sampler import EvaluationBatches, Even, TrainingBatches
from mpanet_pl.data.tracklets import Tracklets
from mpanet_pl.data.views import Views
from mpanet_pl.errors import UserError
from mpanet_pl.system.cores import usable_cores
from mpanet_pl.system.ranges import Count, Part, Place, Probability, Seed, Workers, checked, number


class NotSetUp(UserError, AttributeError):
    """Something that exists once the disk was read."""


@checked
class ReIDDataModule(LightningDataModule):
    """Balanced training batches, and evaluation loaders that hold each image once; works under any LightningModule.

    `train`, `val` and `test` are the catalogues, known after `setup`.

    Args:
        dataset: what is on disk: `SYSU`, `RegDB`, `LLCM`, `Folder`, `Synthetic` or a `DatasetOnDisk` of your own.
        height: of the images in pixels, at least 1.
        width: likewise.
        identities_per_batch: P, over all ranks, who share them equally; at least 1.
        images_per_identity: K, an even number: half of them visible, half infrared.
        sampler: "balanced" (published), "uniform" (each identity equally often), "random", "with_replacement" (AGW's),
            or a draw of your own (`TrainingBatches`).
        augment: `Augmentation`'s fields by name, or an augmentation of your own (`Augment`); None: the recipe's.
        views: at least 1. With 2 a training batch holds every image twice, augmented differently: its second half
            repeats the rows of the first, in order.
        views_of: "all" or "visible": whose further views a batch holds. With "visible" and 2 views it is half as long
            again (CAJ's third stream).
        validation: on "test" (the released recipe chooses its best epoch on the test images) or "held_out": the
            training images of some identities, who are then not trained on (`Splits.hold_out`).
        eval_batch_size: images in a batch of validation and test, at least 1.
        workers: processes that fetch ahead, 0 or more. None: none with the cache, from which a batch takes
            milliseconds, and one per core without it, shared among the ranks of a machine.
        cache: True to decode each image once, into a file beside the dataset; a path to put it elsewhere; False to read
            the originals each time.
        seed: of what is drawn, 0 or more.
        frames: T, how many frames stand for a tracklet, of datasets that have some; a row of the catalogues is then a
            tracklet, and a batch holds its T frames one after another. "auto": as many as the dataset says, if any.
            None: every frame is an image of its own.
        frames_by: which frames, `strips` or `linspace` (see `mpanet_pl.data.tracklets`).
        corrupt: corruptions of the test images, `all` or one by name (see `mpanet_pl.data.corruptions`); None: none.
        severity: of corruptions, 1 to 5; None: uniform.
        corrupted: `visible`, `infrared` or `both`, the images that are.
        corrupt_training: the share of training images that are corrupted, too, in one of all ways drawn anew each time.
        augment_by: each `frame` is augmented by draws of its own, or all of a `track` alike.

    Raises:
        UserError: a value outside its range, at once. In `setup`: a dataset whose folder is at fault (all faults
            together), training identities that are not 0 … C-1. In `train_dataloader`: P and K that the training split
            or the ranks cannot fill. Before `setup`: whatever `setup` reads (an AttributeError, too).

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from mpanet_pl.world import Synthetic
        >>> size = {"height": 48, "width": 24}
        >>> with TemporaryDirectory() as folder:
        ...     people = Synthetic(folder, identities=8, images_per_camera=2, workers=1, **size)
        ...     data = ReIDDataModule(people, **size, identities_per_batch=2, images_per_identity=4)
        ...     data.prepare_data()
        ...     data.setup()
        ...     batch = next(iter(data.train_dataloader()))
        >>> batch.images.shape, batch.infrared.sum().item()
        (torch.Size([8, 3, 48, 24]), 4)
    """

    train: Catalogue
    val: Catalogue
    test: Catalogue

    def __init__(
        self,
        dataset: Dataset,
        *,
        height: Count,
        width: Count,
        identities_per_batch: Count,
        images_per_identity: Even,
        sampler: Named | Draw = "balanced",
        augment: Annotated[Augment | Mapping[str, Any] | None, Part(Augmentation)] = None,
        views: Annotated[int, number(1, 16)] = 1,
        views_of: Literal["all", "visible"] = "all",
        validation: Literal["test", "held_out"] = "test",
        eval_batch_size: Count = 128,
        workers: Workers | None = None,
        cache: bool | Place = True,
        seed: Seed = 1,
        frames: Count | Literal["auto"] | None = None,
        frames_by: Literal["strips", "linspace"] = "strips",
        augment_by: Literal["frame", "track"] = "frame",
        corrupt: str | None = None,
        severity: Severity | None = None,
        corrupted: Side = "visible",
        corrupt_training: Probability = 0.0,
    ) -> None:
        super().__init__()
        if corrupt is None and severity is not None:
            raise UserError("data.severity is of corruptions: say data.corrupt=all, or which.")
        self.corrupt = Corrupt(corrupt, severity=severity, of=corrupted, seed=seed) if corrupt else None
        self.corrupt_training = CorruptTraining(corrupt_training, seed) if corrupt_training else None
        self.frames: int | None = getattr(dataset, "frames", None) if frames == "auto" else frames
        self.frames_by, self.augment_by = frames_by, augment_by
        self.dataset, self.validation, self.cache, self.height, self.width = dataset, validation, cache, height, width
        self.identities_per_batch, self.images_per_identity = identities_per_batch, images_per_identity
        self._filled = identities_per_batch  # the last P of which there were batches
        self.sampler, self.seed, self.eval_batch_size, self.workers = sampler, seed, eval_batch_size, workers
        self.views = Views(augment, views, of=views_of, seed=seed)

    def __getattr__(self, name: str) -> Any:
        if name in ("train", "val", "test", "num_identities", "_images"):
            raise NotSetUp(f"The data module has not read its dataset yet: call setup() before {name.strip('_')}.")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def num_identities(self) -> int:
        return self.train.num_identities

    @property
    def images_are(self) -> dict[str, Any]:
        """What a network that was trained here has seen, in plain values for its checkpoint."""
        return {"height": self.height, "width": self.width, "mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}

    def prepare_data(self) -> None:
        """Make the folder where the dataset can be made, and the cache; on one process per node."""
        if "_images" not in vars(self):
            self.dataset.prepare()
            if self.cache:
                self._read()

    def setup(self, stage: str | None = None) -> None:
        """Read the splits and map the images, whatever the stage: catalogues and loaders exist from here on."""
        if self.trainer is not None and self.trainer.overfit_batches:  # type: ignore[attr-defined]  # set by a helper
            raise UserError("overfit_batches would replace the samplers by its own: use limit_train_batches instead")
        if "_images" not in vars(self):  # what is trained, scored and pictured is one and the same reading of the disk
            self._read()

    def read_catalogues(self) -> None:
        """Who is in which split, as far as it is known without the images: none is drawn, opened or cached."""
        splits = self._splits = self.dataset.read()
        check_labels(splits.train)
        self.train, self.val = splits.hold_out() if self.validation == "held_out" else (splits.train, splits.test)
        self.test = splits.test
        if self.frames:
            self._group_frames()

    def _read(self) -> None:
        self.read_catalogues()
        self._images = open_splits(self.dataset.root, self._splits, self.height, self.width, cache=self.cache)

    def _group_frames(self) -> None:
        """A row a tracklet, in each of the catalogues."""
        assert self.frames
        every = {one: Tracklets(one, self.frames, self.frames_by) for one in (self.train, self.val, self.test)}
        self.train, self.val, self.test = (every[one].catalogue for one in (self.train, self.val, self.test))
        self._tracklets = {one.catalogue: one for one in every.values()}

    def training_batches(self, rank: int = 0, world: int = 1) -> TrainingBatches:
        """A rank's rows of each batch; a `UserError` where the training split cannot fill such batches."""
        return TrainingBatches(
            self.train,
            identities_per_batch=self.identities_per_batch,
            images_per_identity=self.images_per_identity,
            sampler=self._sampler(),
            seed=self.seed,
            rank=rank,
            world=world,
        )

    def _sampler(self) -> Named | Draw:
        """As asked for; several datasets say besides how they meet in a batch."""
        if not isinstance(self.dataset, Joint):
            return self.sampler
        base = DRAWS[self.sampler] if isinstance(self.sampler, str) else self.sampler
        return self.dataset.draw(self.train, base) or self.sampler

    def train_dataloader(self) -> DataLoader[Batch]:
        try:
            batches = self.training_batches(*self._rank_and_world())
        except UserError:  # Lightning's Tuner doubles P until that fails
            self.identities_per_batch = self._filled
            raise
        self._filled = self.identities_per_batch
        batches.set_epoch(_next_epoch(self.trainer) if self.trainer else 0)
        return self._loader(self.train, batches, stays=True)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader(self.val)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader(self.test)

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment in training, otherwise normalise; the batch is on its device here."""
        if self.trainer is None or not isinstance(batch, Batch):  # Lightning passes `example_input_array` through here
            return self.normalise_batch(batch) if isinstance(batch, Batch) else batch
        training = self.trainer.training
        batch = self.augment_batch(batch, self.trainer.current_epoch) if training else self.normalise_batch(batch)
        return self.trainer.precision_plugin.convert_input(batch)  # to true half or double precision, where it is asked

    def augment_batch(self, batch: Batch, epoch: int) -> Batch:
        """A training batch as the loader yields it -> normalised and augmented, with its further views behind it."""
        return self.views(batch, epoch)

    def normalise_batch(self, batch: Batch) -> Batch:
        """An evaluation batch as the loader yields it -> normalised."""
        return batch._replace(images=normalise(batch.images))

    def images(self, catalogue: Catalogue) -> Images:
        """The uint8 images of `train`, `val` or `test`, by row."""
        return self._images.of(catalogue.paths)

    def files(self, catalogue: Catalogue, *, every: bool = False) -> list[Path]:
        """Where the images of `train`, `val` or `test` lie, row by row; of tracklets the first frame, or every one."""
        listed = self._tracklets[catalogue].frames if every and self.frames else catalogue
        return [self._splits.file(self.dataset.root, path) for path in listed.paths]

    def _rank_and_world(self) -> tuple[int, int]:
        if self.trainer is not None:
            return self.trainer.global_rank, self.trainer.world_size
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1

    def _workers(self) -> int:
        if self.workers is not None or self.cache:
            return self.workers or 0
        return max(1, usable_cores() // (self.trainer.num_devices if self.trainer is not None else 1))

    def _evaluation_loader(self, catalogue: Catalogue) -> DataLoader[Batch]:
        rank, world = self._rank_and_world()
        size = max(1, self.eval_batch_size // (self.frames or 1))
        return self._loader(catalogue, EvaluationBatches(catalogue, size, rank=rank, world=world), stays=False)

    def _rows_of(self, catalogue: Catalogue) -> RowsOf:
        tracklets = self._tracklets[catalogue] if self.frames else None
        frames = tracklets.frames if tracklets else catalogue
        images: Pictures = self.images(frames)
        if self.corrupt and catalogue is self.test:
            images = Corrupted(images, frames, self.corrupt)
        corrupt = self.corrupt_training if catalogue is self.train else None
        words: dict[str, Any] = {"source": self.dataset, "is_test": catalogue is self.test, "corrupt_training": corrupt}
        if tracklets is None:
            return RowsOf(images, catalogue, **words)
        return Clips(images, tracklets, seed=self.seed, frames_alike=self.augment_by == "track", **words)

    def _loader(self, catalogue: Catalogue, batches: Sampler[Any], *, stays: bool) -> DataLoader[Batch]:
        """Only the training loader's workers stay between epochs: two loaders would hold twice the processes."""
        workers = self._workers()
        return (Resumable if stays else StopsWorkers)(
            self._rows_of(catalogue),
            sampler=batches,
            batch_size=None,
            num_workers=workers,
            persistent_workers=stays and workers > 0,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        )


def _next_epoch(trainer: Trainer) -> int:
    """Workers fetch ahead once the loader is iterated, which a resumed trainer does before it tells the sampler."""
    return trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]  # typed by its base class
