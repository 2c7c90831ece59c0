"""A loss that is no number stops the run before it can be saved.

The step itself stays free of synchronisation: losses wait on their device and are looked at together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mpanet_pl.data import Batch
from mpanet_pl.errors import RunStopped


class FiniteGuard(pl.Callback):
    """Looks at every step's terms each `log_every_n_steps` and at the epoch's end, before anything is saved."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self.steps: list[tuple[int, dict[str, Tensor], Tensor]] = []  # number, terms, the batch's rows

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        terms: Mapping[str, Tensor] = outputs["terms"]
        self.steps.append((trainer.global_step, dict(terms), batch.index))
        if len(self.steps) >= trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self.look()

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.look()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.look()

    def look(self) -> None:
        """Raise at the first step since the last look that has a term which is NaN or infinite."""
        steps, self.steps = self.steps, []
        if not steps:
            return
        values = torch.stack([torch.stack([value.float() for value in terms.values()]) for _, terms, _ in steps])
        finite = values.isfinite().cpu()  # the one synchronisation
        if finite.all():
            return
        number, terms, rows = steps[int((~finite).any(dim=1).nonzero()[0])]
        broken = [f"{name} is {float(value)}" for name, value in terms.items() if not value.isfinite()]
        images = [self.paths[row] for row in rows.tolist()]
        raise RunStopped(
            f"The loss is no number at step {number}: {', '.join(broken)}. Its batch: {', '.join(images)}. "
            "The last good checkpoint is kept. A lower model.optimizer.lr, trainer.gradient_clip_val=1 or "
            "trainer.precision=32-true may help."
        )
