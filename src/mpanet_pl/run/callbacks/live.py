"""Progress of a run: a live bar with the loss terms and the time left on a terminal, sparse plain lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.trainer.states import TrainerFn
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from mpanet_pl.evaluation.callback import MONITOR
from mpanet_pl.system.progress import SECONDS_BETWEEN_LINES

logger = logging.getLogger(__name__)

COLUMNS = 100


def fitting(parts: Sequence[str]) -> str:
    """As many of the parts as fit a line of 100 columns.

    >>> len(fitting(["identity_infrared 2.31"] * 9))
    94
    """
    line = ""
    for part in parts:
        if len(line) + len(part) + 2 > COLUMNS:
            break
        line += f"  {part}" if line else part
    return line


class TermsBelow(Progress):
    """A bar whose task says its loss terms in a line of their own."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield from (Text(task.fields["terms"]) for task in self.tasks)


class ScoredAtTheEnd(pl.Callback):
    """The last epoch is validated, however often the others are: a run's curve reaches its end."""

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs and trainer.check_val_every_n_epoch:
            trainer.check_val_every_n_epoch = 1


class LiveProgress(ProgressBar):
    """One bar over all epochs. The terms shown are those of the last logged step. Each epoch is a line of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.bar: Progress | None = None
        self.last_line = 0.0
        self.shown = ""

    def disable(self) -> None:
        self.quiet = True

    def enable(self) -> None:
        self.quiet = False

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, module, stage)
        self.quiet = not trainer.is_global_zero

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.began, self.first_step = time.monotonic(), self._done(trainer)
        if not self.quiet and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("left"),
            )
            self.bar = TermsBelow(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task("epoch", total=self._total(trainer), completed=self.first_step, terms="")
            self.bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        done = self._done(trainer)
        if self.bar:
            logged = done % max(1, trainer.log_every_n_steps) == 0  # type: ignore[attr-defined]
            if logged:
                self.shown = fitting(self._terms(trainer))
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.bar.update(self.task, completed=done, description=epoch, terms=self.shown)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        terms = "  ".join(self._terms(trainer))
        logger.info("epoch %d/%d  %s", trainer.current_epoch + 1, trainer.max_epochs or 0, terms)
        if not self.bar and not self.quiet and (last or time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES):
            self.last_line = time.monotonic()
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._say(fitting([epoch, self._left(trainer), *self._terms(trainer)]))

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not self.quiet and not trainer.sanity_checking and MONITOR in trainer.callback_metrics:
            epoch, score = trainer.current_epoch, float(trainer.callback_metrics[MONITOR])
            epoch += trainer.state.fn == TrainerFn.FITTING  # afterwards they are counted as done
            self._say(line := f"epoch {epoch}/{trainer.max_epochs}  {MONITOR} {score:.2f} %")
            logger.info("%s", line)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None

    def _say(self, line: str) -> None:
        if self.bar:
            self.bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def _terms(self, trainer: pl.Trainer) -> list[str]:
        """The total first, then what it is made of."""
        logged = {name.removeprefix("train/"): value for name, value in trainer.logged_metrics.items()}
        names = [name for name in logged if f"train/{name}" in trainer.logged_metrics and name not in ("lr", "alpha")]
        return [f"{name} {float(logged[name]):.2f}" for name in sorted(names, key=lambda name: name != "total")]

    def _left(self, trainer: pl.Trainer) -> str:
        done, total = self._done(trainer), self._total(trainer)
        seconds = (time.monotonic() - self.began) / max(done - self.first_step, 1) * (total - done)
        return f"{seconds / 60:.0f} min left" if seconds > 90 else f"{seconds:.0f} s left"

    def _done(self, trainer: pl.Trainer) -> int:
        return trainer.fit_loop.epoch_loop.total_batch_idx + 1

    def _total(self, trainer: pl.Trainer) -> int:
        return int(trainer.num_training_batches) * (trainer.max_epochs or 1)
