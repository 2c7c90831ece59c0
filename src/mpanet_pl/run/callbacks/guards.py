"""A loss or a weight that is no number stops the run before it can be saved.

The step itself stays free of synchronisation: losses wait on their device and are looked at together.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mpanet_pl.data import Batch
from mpanet_pl.errors import RunStopped

ADVICE = (
    "What may help: trainer.gradient_clip_val=1 or trainer.precision=32-true, also when the run is continued; or a new "
    "run with a lower model.optimizer.lr."
)


def _terms(outputs: Any) -> dict[str, Tensor]:
    """What a step returned: its terms where it tells them, else its loss."""
    if isinstance(outputs, Mapping):
        return dict(outputs.get("terms") or {"loss": outputs["loss"].detach()})
    return {} if outputs is None else {"loss": outputs.detach()}


class FiniteGuard(pl.Callback):
    """Looks at every step's terms each `log_every_n_steps`, and at the weights too at the epoch's end, before they are
    scored or saved."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths
        self.steps: list[tuple[int, dict[str, Tensor], Tensor]] = []  # number, terms, the batch's rows; not yet seen
        self.latest = torch.empty(0, dtype=torch.int64)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.latest = batch.index
        if terms := _terms(outputs):
            self.steps.append((trainer.global_step, terms, batch.index))
        if len(self.steps) >= trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self.look()

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.look_at_weights(trainer, module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.look_at_weights(trainer, module)

    def look_at_weights(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """A gradient that is no number spoils the weights after a step whose terms were fine."""
        self.look()
        floating = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
        finite = torch.stack([value.isfinite().all() for value in floating.values()]).tolist()  # one synchronisation
        if broken := [name for name, is_fine in zip(floating, finite, strict=True) if not is_fine]:
            raise RunStopped(
                f"{len(broken)} weights, {broken[0]} first, are no numbers after step {trainer.global_step}. "
                f"{self._batch(self.latest)} {ADVICE}"
            )

    def look(self) -> None:
        """Raise at the first step since the last look that has a term which is NaN or infinite."""
        steps, self.steps = self.steps, []
        if not steps:
            return
        sums = torch.stack([torch.stack([value.float() for value in terms.values()]).sum() for _, terms, _ in steps])
        finite = sums.isfinite().cpu()  # the one synchronisation; a sum is finite where all its terms are
        if finite.all():
            return
        number, terms, rows = steps[int((~finite).nonzero()[0])]
        broken = [f"{name} is {float(value)}" for name, value in terms.items() if not value.isfinite()]
        raise RunStopped(f"The loss is no number at step {number}: {', '.join(broken)}. {self._batch(rows)} {ADVICE}")

    def _batch(self, rows: Tensor) -> str:
        return f"Its batch: {', '.join(self.paths[row] for row in rows.tolist()) or 'none yet'}."
