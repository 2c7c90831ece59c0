"""From similarities to ranks: where each query's true matches stand in its gallery.

The place of a true match is a count: how many gallery images are at least as similar. That makes the tie rule exact and
free of any file order: **of equal similarities the wrong image ranks first**, so a network that answers the same for
everyone gains nothing by it. A pair that a protocol leaves out has similarity -inf.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

CMC = Literal["deduplicated", "plain"]
REMOVED = float("-inf")


class Ranks(NamedTuple):
    """What became of each query that has a true match."""

    first: Tensor  # (M,) int64, place of the first true match, from 1
    average_precision: Tensor  # (M,) float64, mean of precision at each true match
    inverse_negative_penalty: Tensor  # (M,) float64, number of true matches / place of the last one


def rank(similarity: Tensor, query_identities: Tensor, gallery_identities: Tensor, cmc: CMC = "deduplicated") -> Ranks:
    """Ranks of the queries (rows of `similarity`, (Q, G)) that have a true match, in their order.

    `plain` counts places among images; `deduplicated` among identities, each at its best image. Only `first` differs.

    >>> similarity = torch.tensor([[0.9, 0.8, 0.7, 0.6]])
    >>> rank(similarity, torch.tensor([1]), torch.tensor([2, 2, 1, 1]), cmc="deduplicated").first
    tensor([2])
    >>> rank(similarity, torch.tensor([1]), torch.tensor([2, 2, 1, 1]), cmc="plain").first
    tensor([3])
    """
    identities, column_identity = gallery_identities.unique(return_inverse=True)
    matches = _similarities_of_matches(similarity, query_identities, identities, column_identity)
    matched = (matches[:, 0] > REMOVED).nonzero().flatten()
    similarity, matches = similarity[matched], matches[matched]

    wrong = _count_as_similar(similarity, matches) - _count_as_similar(matches, matches)  # (M, L), int64
    number = torch.arange(1, matches.shape[1] + 1, device=matches.device)
    true = matches > REMOVED
    precision = (number / (wrong + number).double()).where(true, 0)
    count = true.sum(1)
    last = wrong.gather(1, count[:, None] - 1).flatten() + count

    first = wrong[:, 0] + 1
    if cmc == "deduplicated":
        first = _best_of_each_identity(similarity, column_identity, len(identities)).ge(matches[:, :1]).sum(1)
    return Ranks(first, precision.sum(1) / count, count / last.double())


def cumulative_matches(first: Tensor, length: int) -> Tensor:
    """The CMC curve: the share of queries whose first true match stands within rank 1 … `length`. (length,) float64

    >>> cumulative_matches(torch.tensor([1, 3, 3, 9]), 4)
    tensor([0.2500, 0.2500, 0.7500, 0.7500], dtype=torch.float64)
    """
    places = torch.bincount(first, minlength=length + 1)[1 : length + 1]
    return places.cumsum(0).double() / len(first)


def _similarities_of_matches(
    similarity: Tensor, query_identities: Tensor, identities: Tensor, column_identity: Tensor
) -> Tensor:
    """Each query's similarities to the gallery images of its identity, falling, filled up with -inf. (Q, L)"""
    counts = torch.bincount(column_identity, minlength=len(identities))
    by_identity = column_identity.argsort()
    place = torch.arange(len(by_identity), device=counts.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    columns = counts.new_full((len(identities) + 1, int(counts.max())), -1)  # the last row is a stranger's
    columns[column_identity[by_identity], place] = by_identity

    row = torch.searchsorted(identities, query_identities).clamp(max=len(identities) - 1)
    row = row.where(identities[row] == query_identities, len(identities))
    own = columns[row]  # (Q, L)
    return similarity.gather(1, own.clamp(min=0)).masked_fill(own < 0, REMOVED).sort(1, descending=True).values


def _count_as_similar(similarity: Tensor, matches: Tensor) -> Tensor:
    """How many entries of each row of `similarity` (M, G) are at least each of `matches` (M, L). (M, L) int64"""
    return similarity.shape[1] - torch.searchsorted(_rising(similarity), matches)


def _rising(rows: Tensor) -> Tensor:
    """Each row sorted. On CPU by numpy, whose vectorised sort of values is some thirty times as fast as torch's."""
    if rows.is_cuda:
        return rows.sort(1).values
    return torch.from_numpy(np.sort(rows.numpy(), axis=1))


def _best_of_each_identity(similarity: Tensor, column_identity: Tensor, count: int) -> Tensor:
    """(M, count): the highest similarity that each gallery identity reaches in each row."""
    best = similarity.new_full((len(similarity), count), REMOVED)
    return best.scatter_reduce_(1, column_identity.expand_as(similarity), similarity, "amax")
