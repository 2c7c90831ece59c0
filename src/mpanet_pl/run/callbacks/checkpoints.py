"""last.ckpt after every epoch, best.ckpt after the best score: each whole or absent, each resumable.

Only ends of epochs are kept, because a run continued from there draws the very batches it would have drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from mpanet_pl.errors import UserError
from mpanet_pl.system import weights
from mpanet_pl.system.files import written_aside

LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"  # in a run's folder
OF_A_RUN = {
    "callbacks",
    "epoch",
    "global_step",
    "loops",
    "lr_schedulers",
    "optimizer_states",
    "pytorch-lightning_version",
    "state_dict",
}


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint aside and renames it: a run killed meanwhile keeps the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with written_aside(path) as aside, aside.open("wb") as file:
            torch.save(checkpoint, file)


def epochs_done(folder: Path) -> int:
    """How far the checkpoints in a run's folder go. A broken one is a `UserError`, before anything is touched."""
    last, best = folder / LAST, folder / BEST
    if best.exists():
        weights.read(best)
    if not last.exists():
        return 0
    checkpoint = weights.read(last)
    if missing := OF_A_RUN - checkpoint.keys():
        raise UserError(f"{last} is no checkpoint of a training run: it has no {', '.join(sorted(missing))}.")
    if checkpoint["callbacks"].get(Checkpoints.__qualname__, {}).get("best_epoch") and not best.exists():
        raise UserError(f"{best} is missing: put it back, or begin a new run.")
    return int(checkpoint["epoch"]) + 1


class Checkpoints(Checkpoint):
    """Saves last.ckpt into a run's folder at each epoch's end, and best.ckpt where `monitor` was highest.

    Each file also holds `config`, the run's composed configuration, so that it says what it was trained on.
    """

    def __init__(self, folder: Path, monitor: str, config: dict[str, Any]) -> None:
        self.last, self.best = folder / LAST, folder / BEST
        self.monitor, self.config = monitor, config
        self.best_score = float("-inf")
        self.best_epoch: int | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            logger.save()  # a checkpoint never knows more steps than the records beside it
        if self._is_best(trainer):
            trainer.save_checkpoint(self.best)
        trainer.save_checkpoint(self.last)

    def _is_best(self, trainer: pl.Trainer) -> bool:
        """Whether this epoch was scored, higher than every one before."""
        scored = trainer.check_val_every_n_epoch == 1
        if not scored or self.monitor not in trainer.callback_metrics:
            return False
        score = float(trainer.strategy.broadcast(trainer.callback_metrics[self.monitor]))  # ranks save together
        if not score > self.best_score:
            return False
        self.best_score, self.best_epoch = score, trainer.current_epoch + 1
        return True

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]
