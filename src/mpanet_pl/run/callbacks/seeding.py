"""Whatever draws from torch's own generator (dropout, drop-path) draws the same in a run that is continued."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch


class SeededEpochs(pl.Callback):
    """Seeds torch at the start of each epoch, and of each of its batches, by (seed, epoch, rank, batch)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *of_epoch: int) -> None:
        key = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank, *of_epoch))
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        self.on_train_epoch_start(trainer, module, batch_idx + 1)  # loaders' iterators draw as they are made
