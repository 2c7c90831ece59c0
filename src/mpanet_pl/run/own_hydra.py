"""Our configurations in a Hydra project of somebody's own, where `hydra.utils.instantiate` builds every part."""

import inspect
from pathlib import Path

import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from mpanet_pl.run.datasets import FROM_DATASET, set_trial
from mpanet_pl.run.settings import plain, without_recipes
from mpanet_pl.system.precision import best_precision


def instantiable(cfg: DictConfig, folder: str | Path = "runs/own") -> DictConfig:
    """A copy of a composed configuration, whose `model`, `data`, `protocol`, `trainer` and loggers can be instantiated.

    What our commands decide when they run is decided here: the trial, the precision, the official draw of galleries
    where it lies in the dataset's folder, and `folder` for what loggers write.
    """
    ready = without_recipes(OmegaConf.create(plain(cfg)))
    OmegaConf.set_struct(ready, False)
    set_trial(ready)
    if FROM_DATASET in ready.protocol.values():
        of_dataset = {"_target_": f"{ready.protocol._target_}.of", "dataset": "${data.dataset}"}
        ready.protocol = {key: value for key, value in ready.protocol.items() if value != FROM_DATASET} | of_dataset
    trainer = {key: value for key, value in ready.trainer.items() if value is not None}
    if trainer["accelerator"] == "auto":
        trainer["accelerator"] = "gpu" if torch.cuda.is_available() else "cpu"
    if trainer["precision"] == "auto":
        trainer["precision"] = best_precision(trainer["accelerator"])
    ready.trainer = {"_target_": "pytorch_lightning.Trainer", **trainer, "default_root_dir": str(folder)}
    for logger in (ready.get("logger") or {}).values():
        if "save_dir" in inspect.signature(get_class(logger["_target_"])).parameters:
            logger.setdefault("save_dir", str(folder))
    return ready
