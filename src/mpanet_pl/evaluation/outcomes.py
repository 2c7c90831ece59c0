"""What became of each query: the places that scores are means of, kept for intervals, comparisons and slices."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

RANKS = {"r1": 1, "r5": 5, "r10": 10, "r20": 20}
RERANKED = " + "  # between a setting and the re-ranking that follows it
NAMES = (*RANKS, "mAP", "mINP")  # the scores, in the order in which everything lists them


class Outcomes(NamedTuple):
    """Of the M queries that have a true match in some of T trials."""

    queries: Tensor  # (M,) int64, rows of the catalogue
    identities: Tensor  # (M,) int64
    first: Tensor  # (T, M) int64, place of the first true match, from 1; 0 where the trial holds none
    average_precision: Tensor  # (T, M) float64
    inverse_negative_penalty: Tensor  # (T, M) float64

    def values(self) -> Tensor:
        """(T, M, 6): what each query adds to each of `NAMES`, shares of one."""
        found = [(self.first > 0) & (self.first <= k) for k in RANKS.values()]
        return torch.stack([*(hit.double() for hit in found), self.average_precision, self.inverse_negative_penalty], 2)

    def of(self, chosen: Tensor) -> Outcomes:
        """The same of some of the queries (a mask or places)."""
        return Outcomes(self.queries[chosen], self.identities[chosen], *(column[:, chosen] for column in self[2:]))


class People(NamedTuple):
    """What each of I people adds to scores: `sums` over `sizes`, both summed over people, are the scores."""

    identities: Tensor  # (I,) int64, ascending
    sums: Tensor  # (I, 6) float64
    sizes: Tensor  # (I,) float64, which sum to one


def by_person(outcomes: Outcomes) -> People:
    """Each trial counts alike, and in each trial each of its queries."""
    return by_unit(outcomes, outcomes.identities)


def by_unit(outcomes: Outcomes, units: Tensor) -> People:
    """The same of whatever `units` (M,) int64 numbers, query by query: cameras, tracklets, days in place of people."""
    numbers, place = units.unique(return_inverse=True)
    matched = (outcomes.first > 0).double()  # (T, M)
    share = matched / matched.sum(1, keepdim=True) / len(matched)
    sums = torch.zeros(len(numbers), len(NAMES), dtype=torch.float64)
    sums.index_add_(0, place, (outcomes.values() * share[..., None]).sum(0))
    return People(numbers, sums, torch.zeros(len(numbers), dtype=torch.float64).index_add_(0, place, share.sum(0)))
