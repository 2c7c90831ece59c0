"""A ResNet of two streams: each modality has weights of its own as far as a stage, then both share the rest.

The stem alone (`own=stem`) is how AGW (Ye et al., 2021) and most baselines of the field begin.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.network.trunk import PARTS, STEM, Trunk


class TwoStreams(Trunk):
    """A `Trunk` whose infrared images have their own weights, under `infrared.`, up to and with the part `own`.

    In training each stream normalises by the statistics of its own modality. The alleviation is shared.
    """

    asks = ("infrared",)

    def __init__(
        self,
        name: str,
        *,
        own: str = STEM,
        pretrained: bool | str | Path = True,
        last_stride: int = 1,
        alleviation: Sequence[str] = (),
    ) -> None:
        super().__init__(name, pretrained=pretrained, last_stride=last_stride, alleviation=alleviation)
        if own not in PARTS:
            raise UserError(f"own is one of {', '.join(PARTS)}, got {own}")
        self.own = PARTS[: PARTS.index(own) + 1]
        names = [name for part in self.own for name in (("conv1", "bn1") if part == STEM else (part,))]
        self.infrared = nn.ModuleDict({name: copy.deepcopy(getattr(self, name)) for name in names})

    def through(self, parts: Sequence[str], features: Tensor, infrared: Tensor | None = None) -> Tensor:
        own = [part for part in parts if part in self.own]
        features = self._streams(own, features, infrared) if own else features
        return self._through(parts[len(own) :], self, features)

    def _streams(self, parts: Sequence[str], images: Tensor, infrared: Tensor | None) -> Tensor:
        if infrared is None:
            raise UserError("This network has two streams: say which images are infrared (infrared=…).")
        streams: tuple[Any, Any] = (self, self.infrared)
        if torch.compiler.is_exporting():  # a graph whose shapes depend on no value
            both = [self._through(parts, weights, images) for weights in streams]
            return torch.where(infrared[:, None, None, None], both[1], both[0])
        order = infrared.byte().argsort(stable=True)  # the visible images first
        count = int((~infrared).sum())  # this waits for the device
        rows = images[order]
        halves = [
            self._through(parts, weights, theirs)
            for weights, theirs in zip(streams, (rows[:count], rows[count:]), strict=True)
            if len(theirs)
        ]
        return torch.cat(halves)[order.argsort()]
