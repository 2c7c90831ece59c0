"""How far scores would move with other people: 95 % intervals whose units are people, each with all their queries.

The interval is Student's on the scale of log-odds, with the linearised variance of a ratio over people (Cochran,
Sampling Techniques, chapter 6). Near 0 and 100 % a variance says little, so exact binomial bounds limit both ends:
N people of whom none was lost leave room for as many others as N draws would miss (Clopper and Pearson, 1934). An end
that cannot miss on its other side spends the whole 5 % on its own. docs/background/simulations.md has the simulation.
"""

from typing import NamedTuple

import torch
from scipy.special import betaincinv, stdtrit
from torch import Tensor

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
PADDING = 0.1  # people by which log-odds are kept from the ends of the scale
NONE = 1e-9  # a share, or a variance, of so little is rounding


class Interval(NamedTuple):
    low: Tensor  # (K,)
    high: Tensor


def ratio_interval(sums: Tensor, sizes: Tensor) -> Interval:
    """Of K shares, each the sum of `sums` (I, K) over that of `sizes` (I,), for I people: two of (K,).

    >>> low, high = ratio_interval(torch.tensor([[1.0], [1.0], [0.0], [1.0]]), torch.ones(4))
    >>> bool(low < 0.75 < high)
    True
    """
    sums, sizes = sums.double() / sizes.sum(), sizes.double() / sizes.sum()
    return Interval(_lower_end(sums, sizes), 1 - _lower_end(sizes[:, None] - sums, sizes))


def _lower_end(sums: Tensor, sizes: Tensor) -> Tensor:
    """The lowest of the lower ends on the way here from all found, who lost most going first: (K,).

    So the end never rises with a further loss, as it would where that makes losses more alike.
    """
    people = len(sizes)
    lost, order = (sizes[:, None] - sums).sort(0, descending=True)  # (I, K)
    whole = lost.cumsum(0)
    squares = lost.square().cumsum(0) - 2 * whole * (lost * sizes[order]).cumsum(0) + whole**2 * sizes.square().sum()
    variance = squares.clamp(min=0) * people / max(people - 1, 1)
    return share_interval(1 - whole, variance, torch.full_like(whole, max(people - 1, 1)), people).low.amin(0)


def share_and_variance(sums: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Shares (K,) and their variances (K,) among people."""
    sums, sizes = sums.double() / sizes.sum(), sizes.double() / sizes.sum()
    share = sums.sum(0)
    people = len(sizes)
    return share, (sums - share * sizes[:, None]).square().sum(0) * people / max(people - 1, 1)


def share_interval(share: Tensor, variance: Tensor, freedom: Tensor, people: int) -> Interval:
    """Of shares with such variances and degrees of freedom, of any one shape."""
    found_all = TAIL ** (1 / people)  # the lower bound of N people who are all found
    one_lost = float(betaincinv(people - 1, 2, TAIL)) if people > 1 else 0.0
    scale = Odds(PADDING / people)
    reach = variance.sqrt() * scale.slope(share)
    both, one = (_t(level, freedom) * reach for level in (1 - TAIL, LEVEL))
    up, down = scale.back(scale.of(share) + one), scale.back(scale.of(share) - one)
    high = up.where(up > found_all, scale.back(scale.of(share) + both).clamp(max=found_all))
    low = down.where(down < 1 - found_all, scale.back(scale.of(share) - both).clamp(min=1 - found_all))
    alike = variance.sqrt() < NONE
    low = torch.where(alike, share * found_all, low).clamp(max=one_lost)
    high = torch.where(alike, 1 - (1 - share) * found_all, high).clamp(min=1 - one_lost)
    low, high = low.where(share < 1 - NONE, found_all), high.where(share > NONE, 1 - found_all)
    return Interval(torch.minimum(low, share).clamp(min=0), torch.maximum(high, share).clamp(max=1))


def _t(level: float, freedom: Tensor) -> Tensor:
    return torch.from_numpy(stdtrit(freedom.numpy(), level))


class Odds:
    """The scale of log-odds, `margin` wider than [0, 1] on either side, so that its ends are not at infinity."""

    def __init__(self, margin: float) -> None:
        self.margin = margin

    def of(self, share: Tensor) -> Tensor:
        return ((share + self.margin) / (1 - share + self.margin)).log()

    def slope(self, share: Tensor) -> Tensor:
        return 1 / (share + self.margin) + 1 / (1 - share + self.margin)

    def back(self, value: Tensor) -> Tensor:
        return (value.sigmoid() * (1 + 2 * self.margin) - self.margin).clamp(0, 1)
