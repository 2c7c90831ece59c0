"""A Hydra project of one's own: our configurations by `pkg://`, each part by `instantiate`."""

from pathlib import Path

import hydra
import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig

from mpanet_pl import MPANetModule, ReIDDataModule
from mpanet_pl.evaluation import SYSUProtocol
from mpanet_pl.run.own_hydra import instantiable

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
    assert trainer.loggers[0].save_dir == trainer.default_root_dir == str(tmp_path / "run")


def test_what_a_dataset_decides_is_decided(sysu: Path, regdb: Path, tmp_path: Path) -> None:
    protocol = instantiate(composed(tmp_path, "sysu", sysu).protocol)
    assert isinstance(protocol, SYSUProtocol)
    assert protocol.gallery == "random.seed"  # the official draw does not lie in the dataset's folder
    assert composed(tmp_path, "regdb", regdb).data.dataset.trial == 1


def test_the_configurations_are_a_package() -> None:
    with hydra.initialize_config_module("mpanet_pl.conf", version_base="1.3"):
        assert hydra.compose("train", ["dataset=regdb"]).data.height == 256
