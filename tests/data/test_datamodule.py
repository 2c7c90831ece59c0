"""The data module by itself and under a trainer: what a step sees is a function of (seed, epoch), nothing else."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from trees import draw_sysu

from mpanet_pl.data import SYSU, Batch, ReIDDataModule
from mpanet_pl.data.augment import normalise
from mpanet_pl.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")  # Lightning's own use of torch's trees

Step = tuple[int, tuple[int, ...], float]  # epoch, rows, sum of the images


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_sysu(tmp_path_factory.mktemp("sysu"), train=range(1, 8), val=(8,), test=(9, 10))


def module_of(root: Path, **settings) -> ReIDDataModule:
    recipe = {"height": 24, "width": 12, "identities_per_batch": 4, "images_per_identity": 4, "eval_batch_size": 7}
    return ReIDDataModule(SYSU(root), **{**recipe, **settings})


class Witness(pl.LightningModule):
    """Notes what its steps see."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.training_steps: list[Step] = []
        self.test_batches: list[Batch] = []

    def training_step(self, batch: Batch) -> Tensor:
        self.training_steps.append((self.current_epoch, tuple(batch.index.tolist()), batch.images.sum().item()))
        return self.weight * batch.images.mean()

    def validation_step(self, batch: Batch) -> None:
        assert batch.images.dtype == torch.float32

    def test_step(self, batch: Batch) -> None:
        self.test_batches.append(batch)

    def predict_step(self, batch: Batch) -> Tensor:
        return batch.index

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer_of(folder: Path, epochs: int, **settings) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    keeper = ModelCheckpoint(folder, save_last=True)
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=[keeper],
        default_root_dir=folder,
        **quiet,
        **settings,
    )


def steps_of(data: ReIDDataModule, folder: Path, epochs: int, resume: Path | None = None) -> list[Step]:
    witness = Witness()
    trainer_of(folder, epochs).fit(witness, data, ckpt_path=resume, weights_only=True)
    return witness.training_steps


def test_five_lines_are_enough(root):
    data = ReIDDataModule(SYSU(root), height=24, width=12, identities_per_batch=4, images_per_identity=4)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    images = data.augmentation(batch.images, batch.index, batch.infrared, seed=1, epoch=0)

    assert data.num_identities == 8
    assert batch.images.dtype == torch.uint8
    assert images.shape == batch.images.shape == (16, 3, 24, 12)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    for name in ("identities", "cameras", "infrared"):
        assert torch.equal(getattr(batch, name), getattr(data.train, name)[batch.index])
    assert len(list(data.train_dataloader())) == len(data.train_dataloader())


def test_batches_without_cache_are_the_same(root, tmp_path):
    cached, direct, elsewhere = (module_of(root, cache=cache, workers=0) for cache in (True, False, str(tmp_path)))
    for data in (cached, direct, elsewhere):
        data.prepare_data()
        data.setup()
    assert list(tmp_path.iterdir())
    for name in ("train_dataloader", "test_dataloader"):
        for batches in zip(*(getattr(data, name)() for data in (cached, direct, elsewhere)), strict=True):
            assert all(torch.equal(batches[0].images, others.images) for others in batches)


def test_one_loader_holds_every_test_image_once(root, tmp_path):
    data, witness = module_of(root), Witness()
    trainer = trainer_of(tmp_path, 1)
    trainer.test(witness, data, verbose=False)
    rows = torch.cat([batch.index for batch in witness.test_batches])
    assert torch.equal(rows, torch.arange(len(data.test)))
    images = torch.cat([batch.images for batch in witness.test_batches])
    assert torch.equal(images, normalise(data.test_dataloader().dataset[rows.tolist()].images))
    assert torch.equal(torch.cat(trainer.predict(witness, data)), rows)


def test_the_disk_is_read_once(root, tmp_path):
    """What is trained, scored and pictured is the same, whatever happens to the folder meanwhile."""
    shutil.copytree(root, tmp_path / "sysu")
    data, witness = module_of(tmp_path / "sysu"), Witness()
    data.prepare_data()
    data.setup()
    test = data.test
    next((tmp_path / "sysu/cam1/0009").iterdir()).unlink()
    trainer_of(tmp_path, 1).test(witness, data, verbose=False)
    assert data.test is test
    assert sum(len(batch.index) for batch in witness.test_batches) == len(test)


def test_ranks_of_a_machine_share_its_cores(root, monkeypatch):
    monkeypatch.setattr("mpanet_pl.data.datamodule.usable_cores", lambda: 8)
    data = module_of(root, cache=False)
    data.trainer = SimpleNamespace(num_devices=4, overfit_batches=0, global_rank=0, world_size=4)
    data.setup()
    assert data.test_dataloader().num_workers == 2


def test_training_is_augmented_by_epoch_and_row(root, tmp_path):
    steps = steps_of(module_of(root), tmp_path, 2)
    data = module_of(root)
    data.setup()
    rows_of_data, batches = data.train_dataloader().dataset, data.training_batches()
    seen = iter(steps)
    for epoch in range(2):
        batches.set_epoch(epoch)
        for rows in batches:
            batch = rows_of_data[rows]
            images = data.augmentation(
                batch.images, batch.index, batch.infrared, seed=1, epoch=epoch, occurrence=batch.occurrence
            )
            assert next(seen) == (epoch, tuple(rows), images.sum().item())
    assert len({rows for _, rows, _ in steps}) == len(steps)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")  # it is resumed in place
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_sees_what_the_whole_one_sees(root, tmp_path, workers):
    whole = steps_of(module_of(root), tmp_path / "whole", 3)
    first = steps_of(module_of(root, workers=workers), tmp_path / "half", 1)
    rest = steps_of(module_of(root, workers=workers), tmp_path / "half", 3, resume=tmp_path / "half/last.ckpt")
    assert first + rest == whole


def test_two_ranks_see_together_what_one_sees(root):
    def loaders(rank: int, world: int) -> tuple[list[Batch], list[Batch]]:
        data = module_of(root)
        progress = SimpleNamespace(current=SimpleNamespace(processed=2))
        data.trainer = SimpleNamespace(
            global_rank=rank, world_size=world, overfit_batches=0, fit_loop=SimpleNamespace(epoch_progress=progress)
        )
        data.setup()
        return list(data.train_dataloader()), list(data.test_dataloader())

    (train, test), (train_0, test_0), (train_1, test_1) = loaders(0, 1), loaders(0, 2), loaders(1, 2)
    for whole, left, right in zip(train, train_0, train_1, strict=True):
        assert torch.equal(torch.cat((left.images, right.images)), whole.images)
    rows = torch.cat([batch.index for batch in test_0 + test_1])
    assert sorted(rows.tolist()) == torch.cat([batch.index for batch in test]).tolist()


def test_mistakes_are_told(root, tmp_path):
    with pytest.raises(UserError, match="augment has no flop; it has flip, pad"):
        module_of(root, augment={"flop": 0.5})
    with pytest.raises(UserError, match="overfit_batches would replace the samplers"):
        trainer_of(tmp_path, 1, overfit_batches=2).fit(Witness(), module_of(root))
