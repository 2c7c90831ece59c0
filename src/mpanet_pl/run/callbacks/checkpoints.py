"""last.ckpt after every epoch, best.ckpt after the best score: each whole or absent, each resumable.

Only ends of epochs are kept, because a run continued from there draws the very batches it would have drawn.
"""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint, StochasticWeightAveraging

from mpanet_pl.data.seen import Seen
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.callback import MONITOR
from mpanet_pl.run.record import Record
from mpanet_pl.stored import terms_of
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
            raise UserError(f"{last} is missing beside {best.name}: put it back, or begin a new run.")
    if not last.exists():
        return 0
    checkpoint = weights.read(last)
    if missing := OF_A_RUN - checkpoint.keys():
        raise UserError(f"{last} is no checkpoint of a training run: it has no {', '.join(sorted(missing))}.")
    own, epoch, loops = checkpoint["callbacks"], checkpoint["epoch"], checkpoint["loops"]
    if not (isinstance(own, dict) and isinstance(epoch, int) and isinstance(loops, dict) and "fit_loop" in loops):
        raise UserError(f"{last} is damaged: its epoch, callbacks or loops are none. Begin a new run.")
    weights.check_numbers(checkpoint["state_dict"], last)
    if (own.get(Checkpoints.KEY) or {}).get("best_epoch") and not best.exists():
        raise UserError(f"{best} is missing: put it back, or begin a new run.")
    return epoch + 1


class Checkpoints(ModelCheckpoint):
    """Saves last.ckpt into a run's folder at each epoch's end, and best.ckpt where `val/monitor` was highest.

    `best` counts from epoch `start` on. Each file also holds `config`, the run's composed configuration, and `record`,
    so that it says what it was trained on, and how far.
    """

    KEY = "Checkpoints"

    def __init__(self, folder: Path, config: dict[str, Any], *, start: int = 1) -> None:
        super().__init__(folder / Path(LAST).parent, filename="best", monitor=MONITOR, mode="max", save_last=True)
        self.last, self.best = folder / LAST, folder / BEST
        self.config, self.start = config, start
        self.record: Record | None = None  # once the trainer is there
        self.seen: Seen | None = None  # likewise
        self.best_score = float("-inf")
        self.best_epoch: int | None = None
        self.scored: int | None = None  # the epoch of the latest score

    @property
    def state_key(self) -> str:
        return self.KEY

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """The folder is the run's own, whatever lies in it."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None: ...

    def on_train_batch_end(self, *_: Any) -> None:
        """Nothing: only ends of epochs are kept."""

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and MONITOR in trainer.callback_metrics:
            self.scored = trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.is_last_batch:  # a time limit ended the run in mid-epoch
            return
        for logger in trainer.loggers:
            logger.save()  # a checkpoint never knows more steps than the records beside it
        if self._is_best(trainer):
            trainer.save_checkpoint(self.best)
            self.best_model_path, self.best_model_score = str(self.best), torch.tensor(self.best_score)
        self._save_last(trainer)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
            self._save_last(trainer)  # with the averaged weights

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Nothing: the last finished epoch is there."""

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.last)
        self.last_model_path = str(self.last)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)  # which uploads it where `log_model` says so

    def _is_best(self, trainer: pl.Trainer) -> bool:
        """Whether this epoch was scored, higher than every one before."""
        if self.scored != trainer.current_epoch or trainer.current_epoch + 1 < self.start:
            return False
        score = float(trainer.strategy.broadcast(trainer.callback_metrics[MONITOR]))  # ranks save together
        if not score > self.best_score:
            return False
        self.best_score, self.best_epoch = score, trainer.current_epoch + 1
        return True

    def _find_last_checkpoints(self, trainer: pl.Trainer) -> set[str]:
        return {str(self.last)} if self.last.exists() else set()

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config
        if self.seen:
            checkpoint["seen"] = self.seen.plain()
        averaging = checkpoint.get("callbacks", {}).get("StochasticWeightAveraging", {}).get("scheduler_state")
        for schedule in (*checkpoint.get("lr_schedulers", ()), averaging or {}):
            schedule.pop("anneal_func", None)  # torch 2.7's SWALR keeps a function, which no reader of weights takes
        if self.record:
            terms = terms_of(self.record.dataset, self.config, "this checkpoint")
            checkpoint["record"] = self.record.plain() | {"epochs": trainer.current_epoch + 1, "terms": terms}

    def state_dict(self) -> dict[str, Any]:
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]
        if self.best_epoch:
            self.best_model_path = str(self.best)
