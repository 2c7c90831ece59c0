"""Re-ranking: similarities of queries and gallery that also look at who else is near.

A re-ranker takes a trial's embeddings as its protocol compares them, queries (Q, D) and gallery (G, D), and returns
similarities (Q, G). Most know all queries at once, which a search in use does not; only `Affinity` looks at the gallery
alone. Their numbers stand beside those without re-ranking, never in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mpanet_pl.errors import UserError
from mpanet_pl.interfaces import Reranker

SIMILARITIES_AT_ONCE = 2**21  # 8 MB in float32
AT_ONCE = 2**18  # pairs or comparisons that are written out together: bounds the memory


class KReciprocal(Reranker):
    """k-reciprocal encoding (Zhong et al., CVPR 2017): what two images' sets of mutual neighbours have in common.

    With `neighbours="queries"`, as MPANet's release does on SYSU-MM01, only queries are taken for neighbours, and a
    gallery image is described by those nearest to it.
    """

    def __init__(
        self, k1: int = 20, k2: int = 6, distance_weight: float = 0.3, neighbours: Literal["all", "queries"] = "all"
    ) -> None:
        if not 1 <= k2 <= k1:
            raise UserError(f"k-reciprocal re-ranking needs 1 ≤ k2 ≤ k1, got k1={k1}, k2={k2}")
        self.k1, self.k2, self.distance_weight, self.neighbours = k1, k2, distance_weight, neighbours
        self.name = "k-reciprocal" if neighbours == "all" else "k-reciprocal among queries"

    def __str__(self) -> str:
        return f"{self.name} re-ranking (k1 {self.k1}, k2 {self.k2}, distance weight {self.distance_weight})"

    def __call__(self, queries: Tensor, gallery: Tensor) -> Tensor:
        distances = squared_distances(torch.cat([queries, gallery]))  # (N, N)
        return self.similarity(distances.div_(distances.amax(1, keepdim=True).clamp_(min=1e-12)), len(queries))

    def similarity(self, distances: Tensor, queries: int) -> Tensor:
        """From the distances among all (N, N), queries first, each row scaled to a maximum of 1: (Q, G)."""
        candidates = queries if self.neighbours == "queries" else len(distances)
        nearest = distances[:, :candidates].topk(min(self.k1 + 1, candidates), largest=False).indices  # (N, k1 + 1)
        rows, columns = _reciprocal_sets(nearest, self.k1)
        weights = _normalised(rows, (-distances[rows, columns]).exp(), len(distances))
        vectors = _expanded(Sparse.of(rows, columns, weights, len(distances)), nearest[:, : self.k2])
        shared = _shared_weight(vectors, queries)  # (Q, G)
        jaccard = 1 - shared / (2 - shared)
        return jaccard.mul_(self.distance_weight - 1).sub_(distances[:queries, queries:], alpha=self.distance_weight)


class MutualNeighbours(Reranker):
    """Each embedding becomes the mean over itself and those that it is mutually among the `k` nearest of."""

    name = "mutual neighbours"

    def __init__(self, k: int = 6) -> None:
        if k < 1:
            raise UserError(f"Averaging over mutual neighbours needs at least one, got k={k}")
        self.k = k

    def __str__(self) -> str:
        return f"averaged over mutual neighbours (k {self.k})"

    def __call__(self, queries: Tensor, gallery: Tensor) -> Tensor:
        embeddings = torch.cat([queries, gallery])
        nearest = squared_distances(embeddings).topk(min(self.k + 1, len(embeddings)), largest=False).indices
        rows, places = _mutual(nearest).nonzero(as_tuple=True)
        weights = _normalised(rows, torch.ones_like(rows, dtype=embeddings.dtype), len(embeddings))
        where, size = torch.stack([rows, nearest[rows, places]]), (len(embeddings), len(embeddings))
        averaged = torch.sparse_coo_tensor(where, weights, size, check_invariants=True) @ embeddings
        return -torch.cdist(averaged[: len(queries)], averaged[len(queries) :])


class Affinity(Reranker):
    """Affinity inference (Fang et al., ICCV 2023): two images are alike that have the same gallery images near them.

    Each image is described by its cosines to the `k1` gallery images nearest to it, ties at that place included, and 0
    to all others; a gallery image then by the mean over the `k2` nearest to it, itself the first. The similarity is the
    cosine between descriptions, plus the cosine between embeddings. What a query finds depends on no other query.
    """

    compares_directions = True

    def __init__(self, k1: int = 4, k2: int = 1) -> None:
        if k1 < 1 or k2 < 1:
            raise UserError(f"Affinity re-ranking needs k1 and k2 of at least 1, got k1={k1}, k2={k2}")
        self.k1, self.k2 = k1, k2
        self.name = f"affinity ({k1}, {k2})"

    def __str__(self) -> str:
        return f"affinity re-ranking of cosine similarities (k1 {self.k1}, k2 {self.k2})"

    def __call__(self, queries: Tensor, gallery: Tensor) -> Tensor:
        return self.of(gallery)(queries)

    def of(self, gallery: Tensor) -> DescribedGallery:
        """The gallery (G, D) described, to be searched by queries as they come."""
        gallery = normalize(gallery, eps=1e-12)
        count, k1 = len(gallery), min(self.k1, len(gallery))
        kept, nearest = [], []
        for rows in torch.arange(count, device=gallery.device).split(max(1, SIMILARITIES_AT_ONCE // count)):
            cosines = gallery[rows] @ gallery.T  # (B, G)
            row, column = (cosines >= _kth_largest(cosines, k1)).nonzero(as_tuple=True)
            kept.append((rows[row], column, cosines[row, column]))
            cosines[torch.arange(len(rows), device=rows.device), rows] = torch.inf  # itself the first
            nearest.append(cosines.topk(min(self.k2, k1)).indices)
        row, column, value = (torch.cat(parts) for parts in zip(*kept, strict=True))
        described = _expanded(Sparse.of(row, column, value, count), torch.cat(nearest))
        lengths = described.value.new_zeros(count).index_add_(0, described.row, described.value.square()).sqrt()
        values = described.value / lengths.clamp(min=1e-12)[described.row]
        where = torch.stack([described.row, described.column])
        descriptions = torch.sparse_coo_tensor(where, values, (count, count), is_coalesced=True, check_invariants=False)
        return DescribedGallery(gallery, descriptions, k1)


class DescribedGallery(NamedTuple):
    """A gallery ready for `Affinity`: called with queries (Q, D), it gives similarities (Q, G)."""

    embeddings: Tensor  # (G, D), of unit length
    descriptions: Tensor  # (G, G), sparse; rows of unit length
    k1: int

    def __call__(self, queries: Tensor) -> Tensor:
        count = len(self.embeddings)
        similarity = queries.new_empty(len(queries), count)
        for rows in torch.arange(len(queries), device=queries.device).split(max(1, SIMILARITIES_AT_ONCE // count)):
            cosines = normalize(queries[rows], eps=1e-12) @ self.embeddings.T  # (B, G)
            kept = cosines.where(cosines >= _kth_largest(cosines, self.k1), 0)
            alike = torch.sparse.mm(self.descriptions, normalize(kept, eps=1e-12).T.contiguous())  # (G, B)
            similarity[rows] = cosines.add_(alike.T)
        return similarity


def _kth_largest(rows: Tensor, k: int) -> Tensor:
    return rows.topk(k).values[:, -1:]


RERANKERS: Mapping[str, Callable[..., Reranker]] = {
    "affinity": Affinity,
    "k_reciprocal": KReciprocal,
    "k_reciprocal_among_queries": partial(KReciprocal, neighbours="queries"),
    "mutual_neighbours": MutualNeighbours,
}


def squared_distances(embeddings: Tensor) -> Tensor:
    """(N, N), exactly 0 between an embedding and itself."""
    squares = embeddings.square().sum(1)
    distances = torch.addmm(squares, embeddings, embeddings.T, alpha=-2).add_(squares[:, None]).clamp_(min=0)
    return distances.fill_diagonal_(0)


def _mutual(nearest: Tensor) -> Tensor:
    """(N, K) bool: whether row i is among the K nearest of its neighbour nearest[i, k]."""
    numbers = torch.arange(len(nearest), device=nearest.device)
    return (nearest[nearest] == numbers[:, None, None]).any(2)


def _reciprocal_sets(nearest: Tensor, k1: int) -> tuple[Tensor, Tensor]:
    """Every (row, member) of the expanded reciprocal sets, sorted.

    A row's set is that of its k1 mutual neighbours; each of them adds its own k1 / 2 mutual neighbours where more than
    two thirds of those are in the set already.
    """
    count, width = nearest.shape
    half = nearest[:, : round(k1 / 2) + 1]  # (N, H)
    mutual, half_mutual = _mutual(nearest), _mutual(half)
    keys = []
    for rows in torch.arange(count, device=nearest.device).split(max(1, AT_ONCE // (width * half[0].numel() * width))):
        members = nearest[rows].masked_fill(~mutual[rows], -1)  # (B, K)
        theirs = half[nearest[rows]].masked_fill(~half_mutual[nearest[rows]], -2)  # (B, K, H)
        common = (theirs[..., None] == members[:, None, None, :]).any(3).sum(2)  # (B, K)
        joins = mutual[rows] & (3 * common > 2 * (theirs >= 0).sum(2))
        found = torch.cat([members, theirs.masked_fill(~joins[..., None], -2).flatten(1)], 1)
        keys.append((rows[:, None] * count + found)[found >= 0])
    key = torch.cat(keys).unique()
    return key // count, key % count


class Sparse(NamedTuple):
    """Entries sorted by row; those of row i are start[i] … start[i] + length[i]."""

    row: Tensor  # (E,) int64
    column: Tensor  # (E,) int64
    value: Tensor  # (E,)
    start: Tensor  # (rows,) int64
    length: Tensor  # (rows,) int64

    @classmethod
    def of(cls, row: Tensor, column: Tensor, value: Tensor, rows: int) -> Sparse:
        length = torch.bincount(row, minlength=rows)
        return cls(row, column, value, length.cumsum(0) - length, length)

    def entries_of(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The entries of these rows (M,), one row after the other: each one's place in `rows`, and its place here."""
        length = self.length[rows]
        source = torch.repeat_interleave(length)
        first = (self.start[rows] - (length.cumsum(0) - length))[source]
        return source, first + torch.arange(len(source), device=rows.device)


def _normalised(rows: Tensor, values: Tensor, count: int) -> Tensor:
    """Values divided by the sum over their row."""
    return values / values.new_zeros(count).index_add_(0, rows, values)[rows]


def _expanded(vectors: Sparse, nearest: Tensor) -> Sparse:
    """Each row's mean over the rows of its nearest (N, k2)."""
    count = len(nearest)
    source, place = vectors.entries_of(nearest.flatten())
    key, entry = (source // nearest.shape[1] * count + vectors.column[place]).unique(return_inverse=True)
    values = vectors.value.new_zeros(len(key)).index_add_(0, entry, vectors.value[place] / nearest.shape[1])
    return Sparse.of(key // count, key % count, values, count)


def _shared_weight(vectors: Sparse, queries: int) -> Tensor:
    """(Q, G): the sum over columns of the smaller of the two values, looking only where both have one."""
    count = len(vectors.start)
    gallery = _by_column(vectors, queries)
    shared_entries = vectors.value.new_zeros(count, dtype=torch.int64)  # of a row's entries with the gallery's
    shared_entries.index_add_(0, vectors.row, gallery.length[vectors.column])
    shared = []
    for rows in _blocks(shared_entries[:queries]):
        row, entry = vectors.entries_of(rows)
        mine, theirs = gallery.entries_of(vectors.column[entry])
        smaller = torch.minimum(vectors.value[entry][mine], gallery.value[theirs])
        pair = (row * (count - queries))[mine] + gallery.column[theirs]
        shared.append(smaller.new_zeros(len(rows) * (count - queries)).index_add_(0, pair, smaller))
    return torch.cat(shared).view(queries, count - queries)


def _by_column(vectors: Sparse, first: int) -> Sparse:
    """The rows from `first` on, transposed."""
    chosen = (vectors.row >= first).nonzero().flatten()
    order = chosen[vectors.column[chosen].argsort(stable=True)]
    return Sparse.of(vectors.column[order], vectors.row[order] - first, vectors.value[order], len(vectors.start))


def _blocks(work: Tensor) -> Iterator[Tensor]:
    """Consecutive row numbers, as many together as have little enough work."""
    sizes = (work.cumsum(0) // AT_ONCE).unique_consecutive(return_counts=True)[1]
    yield from torch.arange(len(work), device=work.device).split(sizes.tolist())
