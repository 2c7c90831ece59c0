"""`python -m mpanet_pl.train`: train MPANet, test its last and its best epoch, print the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mpanet_pl import weights
from mpanet_pl.callbacks import Checkpoints, FiniteGuard, LiveProgress, RunLogger, Timing
from mpanet_pl.command import run_command
from mpanet_pl.engine import build_trainer, failures_explained, own_ranks, quiet
from mpanet_pl.module import MPANetModule
from mpanet_pl.report import report
from mpanet_pl.runs import make_folder, provenance, reopen
from mpanet_pl.testing import Examiner


def train(cfg: DictConfig) -> None:
    resumed = cfg.resume is not None
    if resumed:
        cfg = reopen(cfg.resume)
    cfg.data_dir = str(Path(cfg.data_dir).absolute())
    with quiet(), own_ranks():
        pl.seed_everything(cfg.seed, workers=True, verbose=False)
        data = instantiate(cfg.data)
        data.prepare_data()
        data.setup("fit")
        module = build_module(cfg, data.num_identities)
        examiner = Examiner(data, instantiate(cfg.protocol), **cfg.validation)
        build_trainer(cfg.trainer)  # refuses before there is a folder
        folder = make_folder(cfg, resumed)
        with failures_explained(folder):
            _fit_and_test(cfg, folder, module, data, examiner)
