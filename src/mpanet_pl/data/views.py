"""A training batch, augmented: each image once, or several times by other draws."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

import torch

from mpanet_pl.data.augment import Augment, Augmentation
from mpanet_pl.data.catalogue import Batch
from mpanet_pl.errors import UserError
from mpanet_pl.interfaces import named_by


class Views:
    """Normalised and augmented images, the further views of a batch behind it, in the order of its rows.

    augment: `Augmentation`'s fields by name, or an augmentation of one's own; None: the recipe's.
    of: "visible": only the visible images have further views.
    """

    def __init__(
        self,
        augment: Augment | Mapping[str, Any] | None,
        count: int = 1,
        *,
        of: Literal["all", "visible"] = "all",
        seed: int = 1,
    ) -> None:
        self.augmentation = augment if callable(augment) else _augmentation(augment or {})
        self.count, self.of, self.seed = count, of, seed
        self._asked = named_by(self.augmentation, ("identities", "cameras"))

    def __call__(self, batch: Batch, epoch: int) -> Batch:
        views = [self._view(batch, epoch, 0)]
        if self.count > 1:
            rows = (~batch.infrared).nonzero()[:, 0] if self.of == "visible" else slice(None)
            again = batch.each(lambda column: column[rows])
            views += [self._view(again, epoch, view) for view in range(1, self.count)]
        columns = zip(*(view[:-1] for view in views), strict=True)
        joined = (None if column[0] is None else torch.cat(column) for column in columns)
        return Batch(*joined, frames=batch.frames)  # type: ignore[arg-type, misc]

    def _view(self, batch: Batch, epoch: int, view: int) -> Batch:
        images = self.augmentation(
            batch.images,
            batch.index,
            batch.infrared,
            seed=self.seed,
            epoch=epoch,
            occurrence=batch.occurrence,
            view=view if self.count > 1 else None,
            **{name: getattr(batch, name) for name in self._asked},
        )
        return batch._replace(images=images)


def _augmentation(settings: Mapping[str, Any]) -> Augmentation:
    known = [field.name for field in fields(Augmentation)]
    if unknown := [name for name in settings if name not in known]:
        raise UserError(f"augment has no {', '.join(unknown)}; it has {', '.join(known)}")
    return Augmentation(**settings)
