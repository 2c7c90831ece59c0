"""Whatever draws from torch's own generator (dropout, drop-path) draws the same in a run that is continued."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch


class SeededEpochs(pl.Callback):
    """Seeds torch at each epoch's start by (seed, epoch, rank)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        key = np.random.SeedSequence((self.seed, trainer.current_epoch, trainer.global_rank))
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:  # a loader's iterator draws after the epoch's start, but before it where a run is resumed
            self.on_train_epoch_start(trainer, module)
