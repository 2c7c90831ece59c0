"""A Hydra project of one's own: our configurations by `pkg://`, each part by `instantiate`. LightningCLI likewise."""

import re
from pathlib import Path
from typing import Any

import hydra
import pytest
import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.cli import LightningCLI

from mpanet_pl import MPANetModule, ReIDDataModule
from mpanet_pl.evaluation import SYSUProtocol
from mpanet_pl.run.own_hydra import instantiable
from mpanet_pl.system.lightning import quiet

PAGE = (Path(__file__).parents[2] / "docs/own_trainer.md").read_text()
CONFIG = """
defaults:
  - model: mpanet
  - data: default
  - trainer: auto
  - logger: [tensorboard]
  - _self_
  - dataset: DATASET
data_dir: ROOT
trial: null
seed: 1
hydra: {searchpath: ["pkg://mpanet_pl.conf"]}
"""
SMALL = ["model.network.trunk=resnet18_thin", "model.network.pretrained=false", "trainer.max_epochs=1"]


def composed(folder: Path, dataset: str, root: Path) -> DictConfig:
    (folder / "config.yaml").write_text(CONFIG.replace("DATASET", dataset).replace("ROOT", str(root)))
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        return instantiable(hydra.compose("config", SMALL), folder / "run")


def test_every_part_is_instantiated(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "synthetic", tmp_path)
    module, data = instantiate(cfg.model, num_identities=4), instantiate(cfg.data)
    trainer = instantiate(cfg.trainer, logger=[*instantiate(cfg.logger).values()])
    assert (type(module), type(data), type(trainer)) == (MPANetModule, ReIDDataModule, pl.Trainer)
    assert instantiate(cfg.protocol).trials == 10
    assert trainer.precision != "auto"
    assert cfg.trainer.accelerator in ("gpu", "cpu")
    assert trainer.loggers[0].save_dir == trainer.default_root_dir == str(tmp_path / "run")


def test_what_a_dataset_decides_is_decided(sysu: Path, regdb: Path, tmp_path: Path) -> None:
    protocol = instantiate(composed(tmp_path, "sysu", sysu).protocol)
    assert isinstance(protocol, SYSUProtocol)
    assert protocol.gallery == "random.seed"  # the official draw does not lie in the dataset's folder
    assert composed(tmp_path, "regdb", regdb).data.dataset.trial == 1


def test_the_configurations_are_a_package() -> None:
    with hydra.initialize_config_module("mpanet_pl.conf", version_base="1.3"):
        assert hydra.compose("train", ["dataset=regdb"]).data.height == 256


TINY = {"height": 32, "width": 16, "identities_per_batch": 2, "images_per_identity": 4, "eval_batch_size": 8}


def shown(page_after: str, language: str) -> str:
    """The first block of that language behind a heading of the page."""
    found = re.search(rf"```{language}[^\n]*\n(.*?)```", PAGE.split(page_after)[1], re.DOTALL)
    assert found
    return found[1]


def test_the_pages_hydra_project_trains(
    sysu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(shown("## In a Hydra project", "yaml"))
    small = [*SMALL, f"data_dir={sysu}", *(f"data.{name}={value}" for name, value in TINY.items())]
    small += ["trainer.limit_train_batches=1", "trainer.check_val_every_n_epoch=1", "trainer.accelerator=cpu"]
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        cfg = hydra.compose("config", small)
    namespace: dict[str, Any] = {}
    exec(re.sub("@hydra.main.*\n", "", shown("## In a Hydra project", "text")) + "    return trainer", namespace)
    with quiet():
        trainer = namespace["main"](cfg)
    assert trainer.global_step == 1
    assert "val/all/single/r1" in trainer.callback_metrics


def test_the_pages_lightning_cli_trains_and_its_checkpoint_is_read(
    sysu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fit.yaml").write_text(shown("## With LightningCLI", "yaml"))
    words = ["--config", "fit.yaml", "--data.dataset", "mpanet_pl.data.SYSU", "--data.dataset.root", str(sysu)]
    words += [word for name, value in TINY.items() for word in (f"--data.{name}", str(value))]
    trainer = {"max_epochs": "1", "limit_train_batches": "1", "accelerator": "cpu", "enable_model_summary": "false"}
    words += [word for name, value in trainer.items() for word in (f"--trainer.{name}", value)]
    with quiet():
        ran = LightningCLI(MPANetModule, ReIDDataModule, args=["fit", *words])
    assert "val/all/single/r1" in ran.trainer.callback_metrics
    (checkpoint,) = Path("checkpoints").glob("*.ckpt")
    assert MPANetModule.load_from_checkpoint(checkpoint).hparams["num_identities"] == ran.datamodule.num_identities
