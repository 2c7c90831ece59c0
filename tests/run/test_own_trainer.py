"""A Trainer of one's own: scores as scalars for whoever reads them, Lightning's settings as Lightning means them."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn

from mpanet_pl import MPANetModule, ReIDDataModule
from mpanet_pl.data import SYSU, Folder, RegDB
from mpanet_pl.errors import UserError
from mpanet_pl.run.callbacks import FiniteGuard
from mpanet_pl.system.lightning import quiet

SETTINGS = ("all/single", "all/multi", "indoor/single", "indoor/multi")
SCORES = {f"{setting}/{score}" for setting in SETTINGS for score in ("r1", "r5", "r10", "r20", "mAP", "mINP")}


@pytest.fixture(autouse=True)
def without_advice():
    with quiet():
        yield


def data_of(dataset: Any, tmp_path: Path, **keys: Any) -> ReIDDataModule:
    sizes = {"height": 48, "width": 24, "identities_per_batch": 2, "images_per_identity": 4, "eval_batch_size": 8}
    return ReIDDataModule(dataset, **sizes | {"cache": str(tmp_path / "cache")} | keys)


def module_of(**keys: Any) -> MPANetModule:
    network = {"trunk": "resnet18_thin", "pretrained": False, "patterns": 2}
    return MPANetModule(4, network=network, criterion={}, optimizer={"lr": 1e-3}, schedule={"milestones": [9]}, **keys)


def trainer_of(root: Path, *callbacks: pl.Callback, **keys: Any) -> pl.Trainer:
    ours = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    ours |= {"enable_model_summary": False, "default_root_dir": root, "log_every_n_steps": 1}
    return pl.Trainer(callbacks=list(callbacks), **ours | keys)


def test_nothing_else_configured_trains_validates_and_tests(sysu: Path, tmp_path: Path) -> None:
    trainer, module, data = trainer_of(tmp_path, max_epochs=2), module_of(), data_of(SYSU(sysu), tmp_path)
    trainer.fit(module, datamodule=data)
    assert {name for name in trainer.callback_metrics if name.startswith("val/")} == {
        "val/monitor",
        *(f"val/{name}" for name in SCORES),
    }
    (validated,) = trainer.validate(module, datamodule=data, verbose=False)
    mean = sum(validated[f"val/{setting}/r1"] for setting in SETTINGS) / 4
    assert validated["val/monitor"] == pytest.approx(mean, rel=1e-6)
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    assert tested.keys() == {f"test/{name}" for name in SCORES}
    assert all(tested[f"test/{name}"] == validated[f"val/{name}"] for name in SCORES)


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [{"fast_dev_run": True}, {"limit_val_batches": 1}, {"num_sanity_val_steps": 1}],
    ids=lambda keys: next(iter(keys)),
)
def test_limited_batches_score_what_was_seen(keys: dict[str, Any], sysu: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, **keys)
    trainer.fit(module_of(), datamodule=data_of(SYSU(sysu), tmp_path))
    scores = [float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")]
    assert all(0 <= score <= 100 for score in scores)


def test_overfitting_is_refused_with_what_to_use(sysu: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use limit_train_batches"):
        trainer_of(tmp_path, overfit_batches=1).fit(module_of(), datamodule=data_of(SYSU(sysu), tmp_path))


@pytest.mark.parametrize(
    ("dataset", "setting"), [(RegDB, "visible_to_thermal"), (Folder, "infrared_to_visible")], ids=["regdb", "folder"]
)
def test_a_dataset_brings_its_protocol(dataset: Any, setting: str, tmp_path: Path, request: Any) -> None:
    root = request.getfixturevalue(dataset.__name__.lower())
    (scores,) = trainer_of(tmp_path).validate(module_of(), datamodule=data_of(dataset(root), tmp_path), verbose=False)
    assert f"val/{setting}/mAP" in scores


class Worse(pl.Callback):
    """Validation scores that fall from epoch to epoch."""

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        module.log("val/falling", 100.0 - trainer.current_epoch)


@pytest.mark.slow
def test_early_stopping_and_checkpoints_read_fresh_scores_at_lightnings_period(sysu: Path, tmp_path: Path) -> None:
    """Nothing rewrites the trainer's period: patience counts validations, one in two epochs."""
    stop = EarlyStopping("val/falling", patience=2, mode="max")
    best = ModelCheckpoint(tmp_path, monitor="val/all/single/r1", mode="max", filename="{epoch}")
    trainer = trainer_of(tmp_path, Worse(), stop, best, max_epochs=9, check_val_every_n_epoch=2, limit_train_batches=1)
    trainer.fit(module_of(), datamodule=data_of(SYSU(sysu), tmp_path))
    assert trainer.current_epoch == 6
    assert trainer.check_val_every_n_epoch == 2
    assert Path(best.best_model_path).stem in ("epoch=1", "epoch=3", "epoch=5")


class Theirs(pl.LightningModule):
    """Somebody else's module: a mean colour, and no terms."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.layer(batch.images.mean((2, 3))), batch.identities)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_the_guard_watches_any_module(sysu: Path, tmp_path: Path) -> None:
    data = data_of(SYSU(sysu), tmp_path)
    data.setup()
    trainer_of(tmp_path, FiniteGuard(data.train.paths), limit_val_batches=0).fit(Theirs(), datamodule=data)


def test_held_out_people_validate_and_the_test_images_are_untouched(folder: Path, tmp_path: Path) -> None:
    people = Folder(folder, test_share=0.3, seed=3)
    data = data_of(people, tmp_path, validation="held_out")
    trainer = trainer_of(tmp_path)
    (scores,) = trainer.validate(module_of(), datamodule=data, verbose=False)
    assert "val/infrared_to_visible/r1" in scores
    assert not set(data.val.paths) & (set(data.test.paths) | set(data.train.paths))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="since torch 2.9")
def test_torchs_newer_precision_switches_change_nothing(sysu: Path, tmp_path: Path) -> None:
    """Torch refuses what mixes the newer and the older way to set them; none of these changes what a CPU computes."""

    def scores() -> list[dict[str, float]]:
        pl.seed_everything(1, verbose=False)
        trainer, module, data = trainer_of(tmp_path, limit_train_batches=2), module_of(), data_of(SYSU(sysu), tmp_path)
        trainer.fit(module, datamodule=data)
        trained = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return [trained, *trainer.test(module, datamodule=data, verbose=False)]

    backends, expected = torch.backends, scores()
    switches = [(backends, "ieee"), (backends.cuda.matmul, "tf32"), (backends.mkldnn.matmul, "ieee")]
    try:
        for backend, precision in switches:
            backend.fp32_precision = precision
            assert scores() == expected
            backend.fp32_precision = "none"
    finally:
        for backend, _ in switches:
            backend.fp32_precision = "none"
