"""Habits of Lightning's users: several datasets, loaders of one's own, true precisions, subclasses, people counted."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.tuner import Tuner
from torch.utils.data import DataLoader

from mpanet_pl import MPANetModule, ReIDDataModule
from mpanet_pl.data import LLCM, SYSU, RegDB
from mpanet_pl.errors import UserError
from mpanet_pl.system.lightning import quiet

pytestmark = pytest.mark.usefixtures("without_advice")
THIN = {"trunk": "resnet18_thin", "pretrained": False, "patterns": 1, "alleviation": []}


@pytest.fixture
def without_advice():
    with quiet():
        yield


def data_of(dataset: Any, tmp_path: Path, **keys: Any) -> ReIDDataModule:
    sizes = {"height": 32, "width": 16, "identities_per_batch": 2, "images_per_identity": 4, "eval_batch_size": 8}
    return ReIDDataModule(dataset, **sizes | {"cache": str(tmp_path / "cache")} | keys)


def module_of(people: int | None = 4, kind: type[MPANetModule] = MPANetModule, **keys: Any) -> MPANetModule:
    torch.manual_seed(0)
    return kind(people, network=THIN, criterion={}, optimizer={"lr": 1e-3}, schedule={"milestones": [9]}, **keys)


def trainer_of(root: Path, *callbacks: pl.Callback, **keys: Any) -> pl.Trainer:
    ours = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    ours |= {"enable_model_summary": False, "default_root_dir": root, "enable_checkpointing": False}
    return pl.Trainer(callbacks=list(callbacks), **ours | keys)


def test_one_trainer_scores_each_dataset_by_its_own_protocol(llcm: Path, regdb: Path, tmp_path: Path) -> None:
    trainer, module = trainer_of(tmp_path), module_of()
    trainer.validate(module, datamodule=data_of(LLCM(llcm), tmp_path / "l"), verbose=False)
    (after,) = trainer.test(module, datamodule=data_of(RegDB(regdb), tmp_path / "r"), verbose=False)
    (fresh,) = trainer_of(tmp_path).test(module, datamodule=data_of(RegDB(regdb), tmp_path / "r"), verbose=False)
    assert "test/visible_to_thermal/r1" in after
    assert after == fresh


def loader_of(data: ReIDDataModule) -> DataLoader:
    data.prepare_data()
    data.setup()
    return data.test_dataloader()


def test_loaders_side_by_side_have_names(llcm: Path, regdb: Path, tmp_path: Path) -> None:
    """After a data module, too: a loader says itself whose images it holds."""
    first, second = data_of(LLCM(llcm), tmp_path / "l"), data_of(RegDB(regdb), tmp_path / "r")
    trainer, module = trainer_of(tmp_path), module_of()
    alone = trainer.test(module, datamodule=first, verbose=False)[0]

    class Normalised(MPANetModule):
        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
            return super().test_step(first.normalise_batch(batch), batch_idx)

    module = module_of(kind=Normalised)
    trainer = trainer_of(tmp_path)
    found = trainer.test(module, dataloaders=[loader_of(first), loader_of(second)], verbose=False)
    scores = {name: value for one in found for name, value in one.items()}
    assert scores["test/llcm/visible_to_infrared/r1"] == alone["test/visible_to_infrared/r1"]
    assert "test/regdb/visible_to_thermal/mAP" in scores
    named = trainer.test(module, dataloaders={"x": loader_of(first), "y": loader_of(first)}, verbose=False)
    scores = {name: value for one in named for name, value in one.items()}
    assert scores["test/x/visible_to_infrared/mAP"] == scores["test/y/visible_to_infrared/mAP"]


def test_what_is_not_scored_is_said(llcm: Path, tmp_path: Path) -> None:
    batch = next(iter(loader_of(data_of(LLCM(llcm), tmp_path))))
    batch = batch._replace(images=batch.images.float())
    with pytest.warns(UserWarning, match="The test loader given does not say whose images it holds: no scores"):
        trainer_of(tmp_path).test(module_of(), dataloaders=DataLoader([batch], batch_size=None), verbose=False)


@pytest.mark.parametrize("output", [None, {"embeddings": 1}])
def test_a_step_that_gives_no_embeddings_is_told(output: Any, llcm: Path, tmp_path: Path) -> None:
    module = module_of()
    module.validation_step = lambda *_: output  # type: ignore[method-assign]
    with pytest.raises(UserError, match=f"The step gives a {type(output).__name__}: a validation or"):
        trainer_of(tmp_path).validate(module, datamodule=data_of(LLCM(llcm), tmp_path), verbose=False)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true"])
def test_true_precisions_train_and_test(precision: str, sysu: Path, tmp_path: Path) -> None:
    trainer, module, data = trainer_of(tmp_path, precision=precision), module_of(None), data_of(SYSU(sysu), tmp_path)
    trainer.fit(module, datamodule=data)
    (scores,) = trainer.test(module, datamodule=data, verbose=False)
    assert 0 <= scores["test/all/single/r1"] <= 100


class Keyworded(MPANetModule):
    """The usual pattern of a subclass: what it does not name goes on to its base."""

    def __init__(self, num_identities: int | None = None, *, note: str = "", **keywords: Any) -> None:
        super().__init__(num_identities, **keywords)
        self.note = note


def test_the_module_counts_the_people_itself_and_a_subclass_with_keywords_comes_back(
    sysu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Keyworded, "__module__", __name__)
    trainer, module, data = trainer_of(tmp_path), module_of(None, Keyworded), data_of(SYSU(sysu), tmp_path)
    assert module.criterion is None
    trainer.fit(module, datamodule=data)
    assert module.hparams["num_identities"] == data.num_identities
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    loaded = Keyworded.load_from_checkpoint(tmp_path / "own.ckpt", "cpu")
    assert type(loaded) is Keyworded
    torch.testing.assert_close(loaded.state_dict(), module.state_dict(), rtol=0, atol=0)
    with (tmp_path / "own.ckpt").open("rb") as file:
        torch.testing.assert_close(Keyworded.load_from_checkpoint(file).state_dict(), module.state_dict())


def test_without_a_data_module_the_people_have_to_be_said(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"), pytest.raises(UserError, match="Say num_identities"):
        trainer_of(tmp_path).fit(module_of(None), DataLoader([0], batch_size=None))


def test_predictions_carry_their_rows(sysu: Path, llcm: Path, tmp_path: Path) -> None:
    data, module = data_of(SYSU(sysu), tmp_path), module_of().eval()
    batches = trainer_of(tmp_path).predict(module, datamodule=data)
    rows = torch.cat([batch.rows for batch in batches])
    assert sorted(rows.tolist()) == list(range(len(data.test)))
    assert [path for batch in batches for path in batch.paths] == [data.test.paths[row] for row in rows]
    for column in ("identities", "cameras", "infrared"):
        found = torch.cat([getattr(batch, column) for batch in batches])
        assert torch.equal(found, getattr(data.test, column)[rows])
    first = data.normalise_batch(next(iter(data.test_dataloader())))
    torch.testing.assert_close(batches[0].embeddings, module(first.images, first.infrared))
    loaders = [loader_of(data), loader_of(data_of(LLCM(llcm), tmp_path / "l"))]

    class Normalised(MPANetModule):
        def predict_step(self, batch: Any, *numbers: int) -> Any:
            return super().predict_step(data.normalise_batch(batch), *numbers)

    _, of_llcm = trainer_of(tmp_path).predict(module_of(kind=Normalised), dataloaders=loaders)
    assert of_llcm[0].paths[0] == loaders[1].dataset.catalogue.paths[0]


class Colours(pl.LightningModule):
    """Somebody's own module, as small as can be; it keeps the rows of each training batch, by epoch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 4)
        self.rows: list[tuple[int, list[int]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.rows.append((self.current_epoch, batch.index.tolist()))
        return torch.nn.functional.cross_entropy(self.layer(batch.images.mean((2, 3))), batch.identities)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.1)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_resumed_in_mid_epoch_skips_what_it_saw(workers: int, sysu: Path, tmp_path: Path) -> None:
    """In the middle of an epoch of four batches, and where nothing of it is left."""

    def fitted(folder: Path, **keys: Any) -> Colours:
        module, each = Colours(), ModelCheckpoint(folder, "{step}", save_top_k=-1, every_n_train_steps=1)
        data = data_of(SYSU(sysu), tmp_path, workers=workers)
        trainer = trainer_of(tmp_path, each, max_epochs=2, enable_checkpointing=True, limit_val_batches=0)
        trainer.fit(module, datamodule=data, **keys)
        return module

    whole = fitted(tmp_path / "whole")
    assert [epoch for epoch, _ in whole.rows] == [0, 0, 0, 0, 1, 1, 1, 1]
    for step in (3, 4):
        rest = fitted(tmp_path / "rest", ckpt_path=tmp_path / "whole" / f"step={step}.ckpt", weights_only=True)
        assert rest.rows == whole.rows[step:]
        torch.testing.assert_close(rest.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_an_example_of_what_the_network_takes_is_no_batch(sysu: Path, tmp_path: Path) -> None:
    """Lightning's summary passes it through the data module."""
    data, module = data_of(SYSU(sysu), tmp_path), module_of(None)
    module.example_input_array = torch.zeros(2, 3, 32, 16)
    keys = {"enable_model_summary": True, "limit_train_batches": 1, "limit_val_batches": 0}
    trainer = trainer_of(tmp_path, **keys)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 1


def test_the_tuner_leaves_as_many_people_a_batch_as_there_are(sysu: Path, tmp_path: Path) -> None:
    """Of four people to train on: two, four, and eight that cannot be; then as many as could."""
    data, words = data_of(SYSU(sysu), tmp_path), {"batch_arg_name": "identities_per_batch", "steps_per_trial": 1}
    tuner = Tuner(trainer_of(tmp_path, limit_val_batches=0))
    with pytest.raises(UserError, match="set identities_per_batch to at most 4"):
        tuner.scale_batch_size(Colours(), datamodule=data, init_val=2, max_trials=3, **words)
    assert data.identities_per_batch == 4


def test_what_does_not_go_together_is_said_before_it_trains(sysu: Path, tmp_path: Path) -> None:
    """Fewer people than the data has; pixels as a loader gives them; scores that nobody takes; no schedule at all."""
    data = data_of(SYSU(sysu), tmp_path)
    with pytest.raises(UserError, match="made for 2 people, the data has 4: leave num_identities out"):
        trainer_of(tmp_path).fit(module_of(2), datamodule=data)
    with pytest.raises(UserError, match="pixels of 0 to 255: give the trainer the ReIDDataModule"):
        trainer_of(tmp_path).test(module_of(), dataloaders=loader_of(data), verbose=False)

    class Alone(MPANetModule):
        def configure_callbacks(self) -> list[pl.Callback]:
            return []

    torch.manual_seed(0)
    module = Alone(None, network=THIN, criterion={}, optimizer={"lr": 1e-3}, schedule=None)
    trainer = trainer_of(tmp_path, limit_train_batches=1, limit_val_batches=0)
    with pytest.warns(UserWarning, match=r"Nothing will be scored: let configure_callbacks add what super\(\)"):
        trainer.fit(module, datamodule=data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 1e-3
