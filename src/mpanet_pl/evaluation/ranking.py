"""From similarities to ranks: where each query's true matches stand in its gallery.

The place of a true match is a count: how many gallery images are at least as similar. That makes the tie rule exact and
free of any file order: **of equal similarities the wrong image ranks first**, so a network that answers the same for
everyone gains nothing by it. A pair that a protocol leaves out has similarity -inf.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.interfaces import CMC

REMOVED = float("-inf")


class Placements(NamedTuple):
    """What became of each query (Q,), or of each in T trials (T, Q); all is 0 where it has no true match."""

    first: Tensor  # int64, place of the first true match, from 1
    average_precision: Tensor  # float64, mean of precision at each true match
    inverse_negative_penalty: Tensor  # float64, number of true matches / place of the last one


class Gallery:
    """Whom the columns of a similarity matrix show, laid out for ranking once for many queries."""

    def __init__(self, identities: Tensor) -> None:
        """`identities` (G,) int64, column by column."""
        known, place = identities.unique(return_inverse=True)
        self.known = known  # (I,)
        self.place = place  # (G,), where a column's identity is among the known
        self.columns = _columns_of_each(self.place, len(self.known))  # (I + 1, L)
        steps = self.place.diff()
        self.starts = None  # (I,) where each identity's columns begin, where they stand together
        if not (steps < 0).any():
            self.starts = np.flatnonzero(np.append(True, steps.cpu().numpy() > 0))

    def columns_of(self, identities: Tensor) -> Tensor:
        """(Q, L): the columns that show each identity, filled up with -1."""
        row = torch.searchsorted(self.known, identities).clamp_(max=len(self.known) - 1)
        return self.columns[row.where(self.known[row] == identities, len(self.known))]

    def best_of_each(self, similarity: Tensor) -> Tensor:
        """(Q, I): the highest similarity that each identity reaches in each row of (Q, G).

        On CPU, where the columns of each identity stand together, by numpy: more than twice as fast.
        """
        if self.starts is not None and similarity.device.type == "cpu":
            return torch.from_numpy(np.maximum.reduceat(similarity.numpy(), self.starts, axis=1))
        best = similarity.new_full((len(similarity), len(self.known)), REMOVED)
        return best.scatter_reduce_(1, self.place.expand_as(similarity), similarity, "amax")


def rank(similarity: Tensor, query_identities: Tensor, gallery: Gallery, cmc: CMC = "deduplicated") -> Placements:
    """Placements of the queries, which are the rows of `similarity` (Q, G).

    `plain` counts places among images; `deduplicated` among identities, each at its best image. Only `first` differs.

    >>> similarity, gallery = torch.tensor([[0.9, 0.8, 0.7, 0.6]]), Gallery(torch.tensor([2, 2, 1, 1]))
    >>> rank(similarity, torch.tensor([1]), gallery, cmc="deduplicated").first
    tensor([2])
    >>> rank(similarity, torch.tensor([1]), gallery, cmc="plain").first
    tensor([3])
    """
    columns = gallery.columns_of(query_identities)
    matches = similarity.gather(1, columns.clamp(min=0)).masked_fill_(columns < 0, REMOVED)
    matches = _rising(matches).flip(1)  # (Q, L)
    wrong = _count_as_similar(_rising(similarity), matches) - _count_as_similar(matches.flip(1), matches)
    number = torch.arange(1, matches.shape[1] + 1, device=matches.device)
    true = matches > REMOVED
    precision = (number / (wrong + number).double()).where(true, 0)  # (Q, L)
    count = true.sum(1)
    some = count.clamp(min=1)
    last = wrong.gather(1, some[:, None] - 1).flatten() + some

    first = (wrong[:, 0] + 1).where(true[:, 0], 0)
    if cmc == "deduplicated":  # one wrong image is one identity; of more, several may show the same
        unsure = (first > 2).nonzero().flatten()
        first[unsure] = (gallery.best_of_each(similarity[unsure]) >= matches[unsure, :1]).sum(1)
    return Placements(first, precision.sum(1) / some, count / last.double())


def rank_trials(
    similarity: Tensor, query_identities: Tensor, columns: Tensor, gallery: Gallery, cmc: CMC
) -> Placements:
    """(T, Q) each: of trials (T, G), each of which chooses `columns` of `similarity` (Q, U) that show these people."""
    trials, images = columns.shape
    chosen = similarity.index_select(1, columns.flatten()).view(-1, images)
    placed = rank(chosen, query_identities.repeat_interleave(trials), gallery, cmc)
    return Placements(*(column.view(-1, trials).T for column in placed))


def joined(parts: Sequence[Placements], dim: int) -> Placements:
    return Placements(*(torch.cat(column, dim) for column in zip(*parts, strict=True)))


def cumulative_matches(first: Tensor, length: int) -> Tensor:
    """The CMC curve: the share of queries whose first true match stands within rank 1 … `length`. (length,) float64

    >>> cumulative_matches(torch.tensor([1, 3, 3, 9]), 4)
    tensor([0.2500, 0.2500, 0.7500, 0.7500], dtype=torch.float64)
    """
    places = torch.bincount(first, minlength=length + 1)[1 : length + 1]
    return places.cumsum(0).double() / len(first)


def _columns_of_each(place: Tensor, identities: int) -> Tensor:
    """(I + 1, L): the columns of each identity, filled up with -1; the last row is that of a stranger."""
    counts = torch.bincount(place, minlength=identities)
    by_identity = place.argsort()
    within = torch.arange(len(place), device=place.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    columns = counts.new_full((identities + 1, int(counts.max())), -1)
    columns[place[by_identity], within] = by_identity
    return columns


def _count_as_similar(rising: Tensor, matches: Tensor) -> Tensor:
    """How many entries of each sorted row (M, G) are at least each of `matches` (M, L). (M, L) int64"""
    return rising.shape[1] - torch.searchsorted(rising, matches)


def _rising(rows: Tensor) -> Tensor:
    """Each row sorted. On CPU by numpy, whose vectorised sort of values is some twenty times as fast as torch's."""
    return torch.from_numpy(np.sort(rows.numpy(), axis=1)) if rows.device.type == "cpu" else rows.sort(1).values
