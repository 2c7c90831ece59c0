"""What each of several datasets adds to a joint training: the criterion's terms on its rows alone, in the log."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.interfaces import STEP

NOT_A_ROW_EACH = ("images", "look")


class LogByDataset(pl.Callback):
    """Logs `by_dataset/NAME/TERM` and `by_dataset/NAME/accuracy` at the steps that the trainer logs.

        python -m mpanet_pl.train dataset=joint … +callbacks.by_dataset._target_=mpanet_pl.run.callbacks.LogByDataset

    The criterion is called once more for each dataset, without gradients, on the rows of its people: a criterion that
    changes when it is called, or asks for images or maps, logs accuracies alone.
    """

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        train = trainer.datamodule.train  # type: ignore[attr-defined]
        names = [path.partition("/")[0] for path in train.paths]
        self.names = list(dict.fromkeys(names))
        if getattr(trainer.datamodule._splits, "roots", None) is None:  # type: ignore[attr-defined]
            raise UserError("LogByDataset is for dataset=joint: another dataset is logged as a whole.")
        self.dataset_of = torch.zeros(train.num_identities, dtype=torch.int64)
        self.dataset_of[train.identities] = torch.tensor([self.names.index(name) for name in names])
        criterion: Any = module.criterion

        def hook(_: Any, given: tuple[Any, ...], step: Mapping[str, Any], found: Any) -> None:
            every = max(1, getattr(trainer, "log_every_n_steps", 1))
            if module.training and (trainer.global_step + 1) % every == 0:
                self._log(module, criterion, given, step)

        self._hook = criterion.register_forward_hook(hook, with_kwargs=True)

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._hook.remove()

    @torch.no_grad()
    def _log(self, module: pl.LightningModule, criterion: Any, given: tuple[Any, ...], step: Mapping[str, Any]) -> None:
        seen, identities, _ = given
        owners = self.dataset_of.to(identities.device)[identities]
        for number, name in enumerate(self.names):
            rows = owners == number
            if not rows.any():
                continue
            part = type(seen)(*(column[rows] for column in seen))
            values = {} if set(step) & set(NOT_A_ROW_EACH) else self._terms(criterion, part, given, rows, step)
            accuracy = getattr(criterion, "accuracy", lambda *_: None)(part.embedding.float(), identities[rows])
            values |= {} if accuracy is None else {"accuracy": accuracy}
            module.log_dict({f"by_dataset/{name}/{term}": value for term, value in values.items()}, on_step=True)

    def _terms(
        self, criterion: Any, part: Any, given: tuple[Tensor, ...], rows: Tensor, step: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """By `forward` itself, which calls no hook."""
        asked = {word: value for word, value in step.items() if word in STEP}
        here = {word: value[rows] if isinstance(value, Tensor) else value for word, value in asked.items()}
        terms: dict[str, Tensor] = criterion.forward(part, given[1][rows], given[2][rows], **here)
        return terms
