"""The generalised mean (Radenović et al., 2018) as a pooling, in place of the plain mean."""

import torch
from torch import Tensor, nn

from mpanet_pl.network.patterns import describe
from mpanet_pl.system.precision import precise

SMALLEST = 1e-6  # feature that a root is taken of: its slope is infinite at 0


class GeneralisedMean(nn.Module):
    """`describe` by (mean of x^p)^(1/p) with a p that learns: between the mean (p = 1) and the maximum.

    Negative features count as 0.

    >>> GeneralisedMean()(torch.tensor([[[[1.0, 3.0]]]]), torch.zeros(1, 0, 1, 2))  # ((1 + 27) / 2) ** (1 / 3)
    tensor([[2.4101]], grad_fn=<PowBackward1>)
    """

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))

    def forward(self, features: Tensor, maps: Tensor) -> Tensor:  # (B, C, h, w), (B, P, h, w) -> (B, (P + 1) · C)
        with torch.autocast(features.device.type, enabled=False):  # cubes leave the range of float16
            powers = precise(features).clamp(min=SMALLEST) ** self.p
            return describe(powers, precise(maps)).clamp(min=SMALLEST**3) ** (1 / self.p)
