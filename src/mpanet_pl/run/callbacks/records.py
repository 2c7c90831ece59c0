"""What a run leaves on disk as it goes: metrics.csv, the same for the same run, and timing.csv, which never is."""

import csv
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from mpanet_pl.data import Batch
from mpanet_pl.errors import UserError
from mpanet_pl.system.files import written_aside


class RunLogger(Logger):
    """Writes metrics.csv: a row for each logged step, a column for each name, blank where nothing was logged.

    A run that goes on after `epochs_done` epochs drops the rows that were written since.
    """

    def __init__(self, folder: Path, epochs_done: int = 0) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self.epoch = epochs_done + 1  # of what is logged without one; `Timing` counts it on
        self.rows: list[dict[str, str]] = _rows_before(self.path, epochs_done)

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @property
    def name(self) -> str:
        return ""  # Lightning's callbacks put their files into save_dir/name/version

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The composed configuration lies beside metrics.csv."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        epoch = int(metrics["epoch"]) + 1 if "epoch" in metrics else self.epoch
        place = {"epoch": str(epoch), "step": str(step)}
        values = {name: repr(float(value)) for name, value in metrics.items() if name != "epoch"}
        values = {
            name: value for name, value in values.items() if not name.startswith("test/")
        }  # results.json has them
        if not values:
            return
        if self.rows and place.items() <= self.rows[-1].items():
            self.rows[-1] |= values
        else:
            self.rows.append(place | values)

    @rank_zero_only
    def save(self) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with written_aside(self.path) as aside, aside.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


def _rows_before(path: Path, epochs: int) -> list[dict[str, str]]:
    """The rows of the first `epochs` epochs, without their blanks."""
    if not epochs or not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]
        return [row for row in rows if int(row["epoch"]) <= epochs]
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise UserError(
            f"{path} is damaged ({error}): mend it, or remove it to go on without a record of the epochs before."
        ) from error


class Reopened(pl.Callback):
    """Takes away what says that the run is finished, once it does go on: its checkpoint is restored by then."""

    def __init__(self, *files: Path) -> None:
        self.files = files

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            for file in self.files:
                file.unlink(missing_ok=True)


class Timing(pl.Callback):
    """Appends an epoch's times to timing.csv, and tells them to the loggers that are not the record of the run."""

    COLUMNS = (
        "epoch",
        "train_seconds",
        "images_per_second",
        "validation_seconds",
        "gpu_memory_gib",
        "processor_seconds",  # of all cores, in this process
    )

    def __init__(self, folder: Path) -> None:
        self.path = folder / "timing.csv"
        self.began = self.validated = self.processed = 0.0
        self.images = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.began, self.validated, self.images = time.perf_counter(), 0.0, 0
        self.processed = time.process_time()
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.epoch = trainer.current_epoch + 1
        if (device := trainer.strategy.root_device).type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.images += len(batch.index) * trainer.world_size

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.validated -= time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.validated += time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        seconds = time.perf_counter() - self.began - self.validated
        device = trainer.strategy.root_device
        memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
        processed = time.process_time() - self.processed
        values = (trainer.current_epoch + 1, seconds, self.images / seconds, self.validated, memory, processed)
        self._append([str(values[0]), *(f"{value:.3f}" for value in values[1:])])
        timing = {f"timing/{name}": value for name, value in zip(self.COLUMNS[1:], values[1:], strict=True)}
        for logger in trainer.loggers:
            if not isinstance(logger, RunLogger):
                logger.log_metrics(timing, step=trainer.global_step)

    def _append(self, cells: list[str]) -> None:
        """In the file's own columns: a run that an older release began has fewer."""
        columns = len(self.COLUMNS)
        if self.path.exists():
            with self.path.open(newline="") as file:
                columns = len(next(csv.reader(file), self.COLUMNS))
        with self.path.open("a", newline="") as file:
            rows = [cells] if file.tell() else [self.COLUMNS, cells]
            csv.writer(file).writerows(row[:columns] for row in rows)
