"""How far scores would move with other people: 95 % intervals from a bootstrap over identities.

A person is drawn with all of that person's queries; the gallery stays as it is. Drawing the gallery's people anew, too,
was tried: two draws of one person count as one wrong person, so that the galleries grow easy and the intervals miss.
The bootstrap is studentised on the scale of log-odds (Efron and Tibshirani, An Introduction to the Bootstrap, chapter
12), of the methods tried the one that covers with few people as well. docs/statistics.md has the simulation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

LEVEL = 0.95
REPLICATES = 2000
LEAST_ERROR = 0.25  # of the sample's own standard error: a draw without the one who differs has next to none
NO_ERROR = 1e-6  # no less, squares being rounded
DRAWN_AT_ONCE = 2**22


class Interval(NamedTuple):
    low: Tensor  # (K,)
    high: Tensor


def draws(people: int, replicates: int, seed: int) -> Iterator[Tensor]:
    """How often each person is drawn: (B, I) float64 in blocks, `replicates` rows in all."""
    generator = torch.Generator().manual_seed(seed)
    block = max(1, DRAWN_AT_ONCE // people)
    for start in range(0, replicates, block):
        rows = min(block, replicates - start)
        drawn = torch.randint(people, (rows, people), generator=generator)
        drawn += torch.arange(rows)[:, None] * people
        yield torch.bincount(drawn.flatten(), minlength=rows * people).view(rows, people).double()


def ratio_interval(sums: Tensor, sizes: Tensor, *, replicates: int = REPLICATES, seed: int = 0) -> Interval:
    """Of K shares, each the sum of `sums` (I, K) over that of `sizes` (I,), people being drawn: two of (K,).

    >>> low, high = ratio_interval(torch.tensor([[1.0], [1.0], [0.0], [1.0]]), torch.ones(4))
    >>> bool(low < 0.75 < high)
    True
    """
    people, tail = len(sizes), (1 - LEVEL) / 2
    scale = Odds(0.5 / people)
    share, error, steps = _steps(sums, sizes, scale, replicates, seed)
    below, above = steps.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64), dim=0)
    reach = error * scale.slope(share)
    low, high = (scale.back(scale.of(share) - step * reach) for step in (above, below))
    return or_unseen(Interval(torch.minimum(low, share), torch.maximum(high, share)), share, error, people)


def or_unseen(interval: Interval, share: Tensor, error: Tensor, people: int) -> Interval:
    """Where all people are alike there is nothing to draw from; n who all are found leave room for as many others as n
    draws would miss, which is the exact bound of a share of people."""
    unseen, alike = ((1 - LEVEL) / 2) ** (1 / people), error < NO_ERROR
    return Interval(
        torch.where(alike, share * unseen, interval.low), torch.where(alike, 1 - (1 - share) * unseen, interval.high)
    )


def difference_interval(sums: Tensor, sizes: Tensor, *, replicates: int = REPLICATES, seed: int = 0) -> Interval:
    """The same of differences between two shares, `sums` being each person's; no width where nobody differs.

    As they are, no log-odds, and as far down as up: of two methods that are alike one is as often the better.
    """
    difference, error, steps = _steps(sums, sizes, None, replicates, seed)
    reach = steps.abs().quantile(LEVEL, dim=0) * error
    return Interval((difference - reach).clamp(min=-1), (difference + reach).clamp(max=1))


def _steps(
    sums: Tensor, sizes: Tensor, scale: Odds | None, replicates: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Shares (K,), their standard errors (K,), and how many of its own errors each draw (R, K) lies from them."""
    sums, sizes = sums.double(), sizes.double()
    share = sums.sum(0) / sizes.sum()
    error = standard_error(torch.ones(1, len(sizes), dtype=torch.float64), sums, sizes, share)[0]
    steps = []
    for weights in draws(len(sizes), replicates, seed):
        shares = (weights @ sums) / (weights @ sizes)[:, None]  # (B, K)
        errors = standard_error(weights, sums, sizes, shares).clamp(min=LEAST_ERROR * error)
        if scale is None:
            steps.append((shares - share) / errors)
        else:
            steps.append((scale.of(shares) - scale.of(share)) / (errors * scale.slope(shares)))
    return share, error, torch.cat(steps).nan_to_num(0, 0, 0)


def standard_error(weights: Tensor, sums: Tensor, sizes: Tensor, shares: Tensor) -> Tensor:
    """Of shares (B, K) under `weights` (B, I), linearised: (B, K). Three matrix products, whatever B is."""
    squares = weights @ (sums * sums) - 2 * shares * (weights @ (sums * sizes[:, None]))
    squares += shares**2 * (weights @ sizes**2)[:, None]
    people = len(sizes)
    return (squares.clamp(min=0) * people / max(people - 1, 1)).sqrt() / (weights @ sizes)[:, None]


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
