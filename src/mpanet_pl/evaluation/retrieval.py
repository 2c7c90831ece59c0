"""Embeddings ranked under a protocol: every trial of every setting, from one similarity matrix a search.

All trials of a search share one similarity matrix; a trial is a choice of its columns.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.evaluation.ranking import REMOVED, Gallery, Placements, joined, rank, rank_trials
from mpanet_pl.interfaces import Reranker, RetrievalProtocol, Search
from mpanet_pl.system.precision import at_least_float32, precise
from mpanet_pl.system.threads import on_threads

START = 64  # numbers by which most embeddings differ
NUMPY = {torch.float32: np.float32, torch.float64: np.float64}
SIMILARITIES_AT_ONCE = 2**21  # 8 MB in float32: what follows stays in the cache

AllPlacements = dict[str, Placements]  # setting -> what became of T trials x Q queries


class Retrieval:
    """Embeddings, whom they show, and the protocol under which they meet."""

    def __init__(
        self, embeddings: Tensor, catalogue: Catalogue, protocol: RetrievalProtocol, lengths: Tensor | None = None
    ) -> None:
        self.embeddings = embeddings
        self.lengths = lengths_of(embeddings) if lengths is None else lengths  # (N,)
        self.catalogue = catalogue
        self.protocol = protocol
        self.identities = catalogue.identities.to(embeddings.device)
        self.centre = _far_off(precise(embeddings)) if protocol.similarity == "euclidean" else None  # (D,)

    def rank(self, search: Search) -> AllPlacements:
        """Every trial of every setting, from one similarity matrix of the queries and all images that a trial uses."""
        galleries = [images for trials in search.galleries.values() for images in trials]
        used = torch.tensor(list(dict.fromkeys(torch.cat(galleries).tolist())))  # (U,)
        column = torch.empty(len(self.catalogue), dtype=torch.int64).scatter_(0, used, torch.arange(len(used)))
        chosen = [
            [
                (column[images].to(self.embeddings.device), Gallery(self.identities[images[0]]))
                for same in self._of_the_same_people(trials)
                for images in same.split(max(1, len(used) // same.shape[1]))  # no more numbers than `similarity`
            ]
            for trials in search.galleries.values()
        ]
        embeddings, who, alike = self.embeddings_of(used), self.catalogue[used], first_alike(self.embeddings, used)

        def placed(block: tuple[Tensor, Tensor]) -> list[Placements]:
            rows, similarity = block
            if alike is not None:
                similarity = similarity[:, alike]
            self.remove_ignored(similarity, rows, who)
            identities = self.identities[rows]
            return [
                joined([rank_trials(similarity, identities, *some, self.protocol.cmc) for some in trials], 0)
                for trials in chosen
            ]

        each = on_threads if embeddings.device.type == "cpu" else map
        blocks = [found for many in self._blocks(search.queries, embeddings) for found in each(placed, many)]
        return {
            setting: joined(found, 1)
            for setting, found in zip(search.galleries, zip(*blocks, strict=True), strict=True)
        }

    def _blocks(self, queries: Tensor, gallery: Tensor) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """Blocks of the queries, and their similarities (B, U) to the gallery's embeddings (U, D); some at a time.

        A product wants many rows, for it rearranges the gallery each time; ranking wants few, that stay in the cache.
        """
        few = max(1, SIMILARITIES_AT_ONCE // len(gallery))
        for many in queries.tensor_split(-(-len(queries) // (8 * few))):
            products = self._similarity(self.embeddings_of(many), gallery)
            yield list(zip(many.tensor_split(8), products.tensor_split(8), strict=True))

    def rerank(self, search: Search, rerank: Reranker) -> AllPlacements:
        """The same after re-ranking, where a trial's similarities depend on its whole gallery."""
        compared = self._as_they_are if getattr(rerank, "compares_directions", False) else self.embeddings_of
        queries, identities = compared(search.queries), self.identities[search.queries]

        def placed(images: Tensor) -> Placements:
            similarity = rerank(queries, compared(images))
            self.remove_ignored(similarity, search.queries, self.catalogue[images])
            return rank(similarity, identities, Gallery(self.identities[images]), self.protocol.cmc)

        return {
            setting: Placements(*map(torch.stack, zip(*map(placed, trials), strict=True)))
            for setting, trials in search.galleries.items()
        }

    def _of_the_same_people(self, trials: Sequence[Tensor]) -> Iterator[Tensor]:
        """The trials, those in one (T, G) whose galleries show the same people, column by column."""
        by_identity = [images[self.catalogue.identities[images].argsort(stable=True)] for images in trials]
        for _, same in groupby(by_identity, lambda images: self.catalogue.identities[images].tolist()):
            yield torch.stack(list(same))

    def _as_they_are(self, rows: Tensor) -> Tensor:
        chosen = _empty(len(rows), self.embeddings.shape[1], self.embeddings)
        return precise(torch.index_select(self.embeddings, 0, rows.to(self.embeddings.device), out=chosen))

    def embeddings_of(self, rows: Tensor) -> Tensor:
        """A copy of these rows as the protocol compares them, in float32 or better.

        Columns far from 0 are centred before distances are taken, to limit rounding.
        """
        chosen = self._as_they_are(rows)
        if self.centre is not None:
            return chosen.sub_(self.centre)
        if self.protocol.similarity == "product":
            return chosen
        return chosen.div_(_no_zeros(self.lengths[rows.to(chosen.device)])[:, None])

    def comparable(self, queries: Tensor, images: Tensor) -> Tensor:
        """(Q, G) similarities that mean the same for every query; -inf where a pair does not meet."""
        mine, theirs = self.embeddings_of(queries), self.embeddings_of(images)
        similarity = -torch.cdist(mine, theirs) if self.protocol.similarity == "euclidean" else mine @ theirs.T
        self.remove_ignored(similarity, queries, self.catalogue[images])
        return similarity

    def _similarity(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Inner products, or what orders each row as negative Euclidean distances do (without the query's square)."""
        found = _empty(len(queries), len(gallery), queries)
        if self.protocol.similarity == "euclidean":
            return torch.addmm(-gallery.square().sum(1) / 2, queries, gallery.T, out=found)
        return torch.mm(queries, gallery.T, out=found)

    def remove_ignored(self, similarity: Tensor, queries: Tensor, gallery: Catalogue) -> None:
        ignored = self.protocol.ignored(self.catalogue[queries], gallery)
        if ignored is not None:
            similarity.masked_fill_(ignored.to(similarity.device), REMOVED)


def _empty(rows: int, columns: int, like: Tensor) -> Tensor:
    """(rows, columns) to be filled. On CPU by numpy, which asks for huge pages: page faults were half the cost."""
    kind = NUMPY.get(like.dtype) if like.device.type == "cpu" else None
    return torch.from_numpy(np.empty((rows, columns), kind)) if kind else like.new_empty(rows, columns)


def _far_off(embeddings: Tensor) -> Tensor:
    """The mean of the columns (N, D) whose spread is small beside it, 0 of the others: (D,)."""
    spread, mean = torch.std_mean(embeddings, dim=0, correction=0)
    return torch.where(mean.abs() > 2 * spread, mean, 0)


def first_alike(embeddings: Tensor, rows: Tensor) -> Tensor | None:
    """For each of `rows` the place among them of the first equal embedding; None where all differ.

    A matrix product rounds equal columns differently, depending on where they stand: only one of them may count.
    """
    prints = _fingerprints(embeddings[:, :START][rows])
    kinds, kind, number = prints.unique(return_inverse=True, return_counts=True)
    if len(kinds) < len(rows):
        for some in (number[kind] > 1).nonzero().flatten().split(64):
            prints[some] = _fingerprints(embeddings[rows[some.cpu()]])
        kinds, kind = prints.unique(return_inverse=True)
    if len(kinds) == len(rows):
        return None
    places = torch.arange(len(rows), device=embeddings.device)
    first = torch.full_like(kind, len(rows)).scatter_reduce_(0, kind, places, "amin")[kind]
    for place in (first != places).nonzero().flatten().tolist():
        if not torch.equal(
            embeddings[rows[place]], embeddings[rows[int(first[place])]]
        ):  # which chance could bring about
            first[place] = place
    return first


def _fingerprints(embeddings: Tensor) -> Tensor:
    """(N,) int64, equal for equal embeddings, whole numbers being exact in any order."""
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[embeddings.element_size()]
    bits = (embeddings + 0.0).view(kind).long()  # -0 is 0
    mixing = torch.randint(2**62, (bits.shape[1],), generator=torch.Generator().manual_seed(0)).to(bits.device)
    bits ^= bits >> 32  # numbers often differ in their upper bits alone, which a product shifts out
    return bits.mul_(2 * mixing + 1).sum(1)


def true_matches(
    catalogue: Catalogue, protocol: RetrievalProtocol, queries: Tensor, gallery: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Some of the queries, and which images of the gallery are their true matches (Q, G), until all were asked."""
    images = catalogue[gallery]
    for rows in queries.split(128):
        asked = catalogue[rows]
        matches = asked.identities[:, None] == images.identities
        ignored = protocol.ignored(asked, images)
        yield rows, matches if ignored is None else matches & ~ignored


def any_match(catalogue: Catalogue, protocol: RetrievalProtocol, queries: Tensor, gallery: Tensor) -> bool:
    """Whether one of the queries has a true match in the gallery; both are rows of the catalogue."""
    return any(bool(matches.any()) for _, matches in true_matches(catalogue, protocol, queries, gallery))


def lengths_of(embeddings: Tensor) -> Tensor:
    """Euclidean lengths (N,), in float32 or better; of tiny numbers, too, whose squares would vanish."""
    lengths = embeddings.norm(dim=1, dtype=at_least_float32(embeddings.dtype))
    small = (lengths < torch.finfo(lengths.dtype).eps ** 2).nonzero().flatten()
    if len(small):
        rows = precise(embeddings[small])
        largest = rows.abs().amax(1)
        lengths[small] = largest * (rows / _no_zeros(largest)[:, None]).norm(dim=1)
    return lengths


def directions_of(embeddings: Tensor) -> Tensor:
    """The embeddings (N, D) at length one; a row of zeros stays one."""
    return precise(embeddings) / _no_zeros(lengths_of(embeddings))[:, None]


def _no_zeros(lengths: Tensor) -> Tensor:
    return lengths.where(lengths > 0, 1)
