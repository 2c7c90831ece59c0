"""Verification: pairs of images told apart by one threshold, of the same person or of two."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FALSE_ACCEPTS = (1e-1, 1e-2, 1e-3, 1e-4)


class Verification(NamedTuple):
    """Pairs told apart by one threshold: accepted are those above it."""

    true: Tensor  # (P,) float64: share of same-person pairs accepted, as the threshold falls from above all of them
    false: Tensor  # (P,) float64: share of different-person pairs accepted

    @classmethod
    def of(cls, same: Tensor, different: Tensor) -> Verification:
        """From the similarities of the pairs of each kind."""
        scores, order = torch.cat([same, different]).sort(descending=True)
        is_same = order < len(same)
        last = torch.cat([scores[1:] != scores[:-1], scores.new_ones(1, dtype=torch.bool)])  # of equal scores
        true, false = (kind.cumsum(0)[last].double() / kind.sum() for kind in (is_same, ~is_same))
        start = true.new_zeros(1)
        return cls(torch.cat([start, true]), torch.cat([start, false]))

    def at(self, rate: float) -> float:
        """TAR: the most same-person pairs that can be accepted with at most this share of the others (FAR)."""
        within = torch.searchsorted(self.false, rate * (1 + 1e-12), right=True)
        return float(self.true[within - 1])

    @property
    def equal_error(self) -> float:
        """Where both errors are the most alike, their mean."""
        wrong, missed = self.false, 1 - self.true
        place = (wrong - missed).abs().argmin()
        return float((wrong + missed)[place] / 2)

    @property
    def area(self) -> float:
        return float(torch.trapezoid(self.true, self.false))

    def true_rejection_at(self, false_rejection: float) -> float:
        """What fast-reid reports as "TPR@FPR": the share of different-person pairs rejected, at the curve's point whose
        share of same-person pairs rejected is nearest. Its curve leaves points between two others out.
        """
        rejected_same, rejected = (1 - self.true).flip(0), (1 - self.false).flip(0)
        bends = (rejected_same.diff(n=2).abs() > 1e-12) | (rejected.diff(n=2).abs() > 1e-12)
        kept = torch.cat([bends.new_ones(1), bends, bends.new_ones(1)])
        return float(rejected[kept][(rejected_same[kept] - false_rejection).abs().argmin()])
