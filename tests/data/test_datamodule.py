"""The data module by itself and under a trainer: what a step sees is a function of (seed, epoch), nothing else."""

import dataclasses
import multiprocessing
import pickle
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from trees import draw_sysu

from mpanet_pl.data import SYSU, Batch, ReIDDataModule, Splits
from mpanet_pl.data.augment import normalise
from mpanet_pl.errors import UserError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning's own use of torch's trees
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),  # its advice, which the cache makes void
]

ON_CPU = SimpleNamespace(root_device=torch.device("cpu"))  # a trainer's strategy
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
        self.validated: list[int] = []
        self.validation_images: list[Tensor] = []

    def training_step(self, batch: Batch) -> Tensor:
        self.training_steps.append((self.current_epoch, tuple(batch.index.tolist()), batch.images.sum().item()))
        return self.weight * batch.images.mean()

    def validation_step(self, batch: Batch) -> None:
        self.validated += batch.index.tolist()
        self.validation_images.append(batch.images)

    def test_step(self, batch: Batch) -> None:
        self.test_batches.append(batch)

    def predict_step(self, batch: Batch) -> Tensor:
        return batch.index

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer_of(folder: Path, epochs: int, **settings) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    quiet |= {"num_sanity_val_steps": 0} | settings
    keeper = ModelCheckpoint(folder, save_last=True)
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=[keeper],
        default_root_dir=folder,
        **quiet,
    )


def steps_of(data: ReIDDataModule, folder: Path, epochs: int, resume: Path | None = None) -> list[Step]:
    witness = Witness()
    trainer_of(folder, epochs).fit(witness, data, ckpt_path=resume, weights_only=True)
    return witness.training_steps


def test_five_lines_are_enough(root):
    data = ReIDDataModule(SYSU(root), height=24, width=12, identities_per_batch=4, images_per_identity=4)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    images = data.views.augmentation(batch.images, batch.index, batch.infrared, seed=1, epoch=0)

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
    data.trainer = SimpleNamespace(num_devices=4, overfit_batches=0, global_rank=0, world_size=4, strategy=ON_CPU)
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
            images = data.views.augmentation(
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
            global_rank=rank,
            world_size=world,
            overfit_batches=0,
            fit_loop=SimpleNamespace(epoch_progress=progress),
            strategy=ON_CPU,
        )
        data.setup()
        return list(data.train_dataloader()), list(data.test_dataloader())

    (train, test), (train_0, test_0), (train_1, test_1) = loaders(0, 1), loaders(0, 2), loaders(1, 2)
    for whole, left, right in zip(train, train_0, train_1, strict=True):
        assert torch.equal(torch.cat((left.images, right.images)), whole.images)
    rows = torch.cat([batch.index for batch in test_0 + test_1])
    assert sorted(rows.tolist()) == torch.cat([batch.index for batch in test]).tolist()


def test_views_are_the_same_rows_augmented_differently(root, tmp_path):
    one, two = module_of(root), module_of(root, views=2)
    for data in (one, two):
        data.setup()
    batch = next(iter(two.train_dataloader()))
    both, alone = two.augment_batch(batch, epoch=3), one.augment_batch(batch, epoch=3)
    assert both.images.shape == (32, 3, 24, 12)
    for column, single in zip(both[1:-1], batch[1:-1], strict=True):
        assert torch.equal(column, torch.cat((single, single)))
    first, second = both.images.chunk(2)
    assert torch.equal(first, alone.images)
    assert (first != second).flatten(1).any(1).all()
    witness = Witness()
    trainer_of(tmp_path, 1).fit(witness, module_of(root, views=2))
    assert all(rows[:16] == rows[16:] for _, rows, _ in witness.training_steps)


def test_cajs_streams_are_its_two_views(root):
    still = {"flip": 0, "pad": 0, "erase": 0}
    data = module_of(root, views=2, augment={**still, "caj": True})
    data.setup()
    batch = next(iter(data.train_dataloader()))
    first, second = data.augment_batch(batch, epoch=0).images.chunk(2)
    visible = ~batch.infrared
    assert torch.equal(first[visible], normalise(batch.images)[visible])
    assert (second[visible] == second[visible][:, :1]).all()  # three equal channels
    assert not torch.equal(first[~visible], second[~visible])


def test_further_views_may_be_of_the_visible_images_alone(root):
    data = module_of(root, views=3, views_of="visible")
    data.setup()
    batch = next(iter(data.train_dataloader()))
    visible = ~batch.infrared
    streams, whole = data.augment_batch(batch, epoch=3), module_of(root, views=3)
    first, second, third = whole.augment_batch(batch, epoch=3).images.chunk(3)
    assert torch.equal(streams.images, torch.cat((first, second[visible], third[visible])))
    for column, single in zip(streams[1:-1], batch[1:-1], strict=True):
        assert torch.equal(column, torch.cat((single, single[visible], single[visible])))


class Named:
    """Paints an image by whom and where it shows."""

    def __call__(self, images, index, infrared, *, seed, epoch, occurrence=None, view=None, identities, cameras):
        return torch.stack((identities, cameras, infrared), 1)[:, :, None, None].float().expand(images.shape)


def test_an_augmentation_gets_identities_and_cameras_where_it_names_them(root):
    data = module_of(root, augment=Named(), views=2, views_of="visible")
    data.setup()
    batch = data.augment_batch(next(iter(data.train_dataloader())), epoch=0)
    assert (
        batch.images[:, :, 0, 0].tolist() == torch.stack((batch.identities, batch.cameras, batch.infrared), 1).tolist()
    )


class Mirror:
    """An augmentation of one's own."""

    def __call__(self, images, index, infrared, *, seed, epoch, occurrence=None, view=None):
        return normalise(images).flip(3)


def test_an_augmentation_of_ones_own_takes_over(root):
    data = module_of(root, augment=Mirror())
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(data.augment_batch(batch, epoch=0).images, normalise(batch.images).flip(3))


def test_what_comes_before_setup_is_told(root):
    data = module_of(root)
    for ask in (data.train_dataloader, data.val_dataloader, data.test_dataloader, lambda: data.num_identities):
        with pytest.raises(UserError, match=r"has not read its dataset yet: call setup\(\) before"):
            ask()
    assert not hasattr(data, "train")
    with pytest.raises(AttributeError, match="ReIDDataModule has no attribute 'trian'"):
        data.trian  # noqa: B018


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_every_stage_sets_up_all(root, stage):
    data = module_of(root)
    data.setup(stage)
    data.teardown(stage)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert next(iter(loader)).images.dtype == torch.uint8


def test_held_out_identities_validate_and_do_not_train(root, tmp_path):
    whole, data = module_of(root), module_of(root, validation="held_out", identities_per_batch=2)
    for module in (whole, data):
        module.setup()
    assert {path.split("/")[1] for path in data.val.paths} == {"0008"}  # of val_id.txt
    assert data.train.identities.unique().tolist() == list(range(7))
    assert sorted(data.train.paths + data.val.paths) == sorted(whole.train.paths)
    assert data.test.paths == whole.test.paths
    assert torch.equal(whole.val.identities, whole.test.identities)
    batch = next(iter(data.val_dataloader()))
    assert torch.equal(batch.images, data.images(data.val)[batch.index])
    witness = Witness()
    trainer_of(tmp_path, 1).validate(witness, data, verbose=False)
    assert sorted(path for path in data.val.paths) == sorted(data.val.paths[row] for row in witness.validated)


@pytest.mark.parametrize(
    "settings",
    [{"fast_dev_run": True}, {"limit_train_batches": 2, "limit_val_batches": 1}, {"num_sanity_val_steps": 1}],
    ids=str,
)
def test_a_plain_trainers_own_settings_mean_what_they_say(root, tmp_path, settings):
    witness = Witness()
    trainer_of(tmp_path, 1, **settings).fit(witness, module_of(root))
    steps = 1 if "fast_dev_run" in settings else settings.get("limit_train_batches", 4)
    assert len(witness.training_steps) == steps


def test_validation_images_are_not_augmented(root, tmp_path):
    data, witness = module_of(root), Witness()
    trainer_of(tmp_path, 1).fit(witness, data)
    assert len(witness.validation_images) > 1
    rows = torch.tensor(witness.validated[: len(data.val)])  # the sanity check has seen some once more
    seen = torch.cat(witness.validation_images)[: len(rows)]
    assert torch.equal(seen, normalise(data.images(data.val)[rows]))


def test_a_seed_changes_batches_and_augmentation(root):
    def first(**settings) -> Batch:
        data = module_of(root, **settings)
        data.setup()
        return data.augment_batch(next(iter(data.train_dataloader())), epoch=0)

    one, again, other, random = first(seed=1), first(seed=1), first(seed=2), first(sampler="random")
    assert torch.equal(one.images, again.images)
    assert one.index.tolist() != other.index.tolist()
    assert sorted(one.identities.tolist()) != sorted(random.identities.tolist())  # the sampler that was asked for
    data, twin = module_of(root, seed=1), module_of(root, seed=2)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert not torch.equal(data.augment_batch(batch, 0).images, twin.augment_batch(batch, 0).images)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
def test_the_loaders_do_not_both_keep_workers(root, tmp_path):
    class Counter(Witness):
        processes: list[int] = []  # noqa: RUF012

        def training_step(self, batch: Batch) -> Tensor:
            self.processes.append(len(multiprocessing.active_children()))
            return super().training_step(batch)

    before = len(multiprocessing.active_children())
    trainer_of(tmp_path, 2).fit(Counter(), module_of(root, workers=1))
    assert set(Counter.processes) == {before + 1}


@pytest.mark.parametrize("cache", [True, False])
def test_what_a_loader_holds_is_sent_to_workers(root, cache):
    data = module_of(root, cache=cache, workers=0)
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        sent = pickle.loads(pickle.dumps((loader.dataset, loader.sampler, loader.collate_fn)))
        rows = next(iter(sent[1]))
        assert torch.equal(sent[0][rows].images, loader.dataset[rows].images)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_spawned_workers_yield_the_same(root):
    batches = []
    for workers, context in ((0, None), (1, "spawn")):
        data = module_of(root, workers=workers)
        data.setup()
        loader = data.train_dataloader()
        loader.multiprocessing_context = context
        batches.append(list(loader))
    for here, there in zip(*batches, strict=True):
        assert all(torch.equal(*columns) for columns in zip(here[:-1], there[:-1], strict=True))


def test_the_dataset_is_read_once_for_preparing_and_setting_up(root, monkeypatch):
    data, reads = module_of(root), []
    real = data.dataset.read
    monkeypatch.setattr(data.dataset, "read", lambda: reads.append(1) or real())
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    assert len(reads) == 1


def test_labels_with_a_gap_are_told(root, monkeypatch):
    data = module_of(root)
    splits = data.dataset.read()
    for gap in (splits.train.identities * 2, splits.train.identities - 100):
        train = dataclasses.replace(splits.train, identities=gap)
        monkeypatch.setattr(data.dataset, "read", lambda train=train: Splits(train, splits.test))
        with pytest.raises(
            UserError, match=r"numbered 0 … C-1 without a gap, but these 8 run from (0 to 14|-100 to -93)"
        ):
            data.setup()


def test_nobody_elses_filters_are_touched(root):
    before = list(warnings.filters)
    data = module_of(root)
    data.setup()
    data.train_dataloader()
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"height": 32.5}, "height must be a whole number, got 32.5"),
        ({"views_of": "infrared"}, "views_of must be all or visible, got 'infrared'"),
        ({"views": 0}, "views must be between 1 and 16, got 0"),
        ({"seed": 2**63}, "seed must be between 0 and 4294967295, got 9223372036854775808"),
        ({"validation": "train"}, "validation must be test or held_out, got 'train'"),
        ({"augment": {"flop": 0.5}}, "augment has no flop; it has flip, pad"),
    ],
)
def test_mistakes_are_told(root, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        module_of(root, **settings)


def test_what_would_replace_the_samplers_is_refused(root, tmp_path):
    with pytest.raises(UserError, match=r"overfit_batches would replace the samplers .*: use limit_train_batches"):
        trainer_of(tmp_path, 1, overfit_batches=2).fit(Witness(), module_of(root))
