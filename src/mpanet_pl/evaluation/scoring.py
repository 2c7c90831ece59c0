"""From embeddings to scores: every setting and trial of a protocol in one pass over the similarities.

All trials of a search share one similarity matrix; a trial is a choice of its columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from statistics import fmean, stdev

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.intervals import ratio_interval
from mpanet_pl.evaluation.outcomes import NAMES, RANKS, RERANKED, Outcomes, by_person
from mpanet_pl.evaluation.protocols import RetrievalProtocol, Search
from mpanet_pl.evaluation.ranking import REMOVED, Gallery, Placements, cumulative_matches, joined, rank, rank_trials
from mpanet_pl.evaluation.rerank import Reranker
from mpanet_pl.system.precision import at_least_float32, full_precision, precise
from mpanet_pl.system.threads import on_threads

START = 64  # numbers by which most embeddings differ
NUMPY = {torch.float32: np.float32, torch.float64: np.float64}
SIMILARITIES_AT_ONCE = 2**21  # 8 MB in float32: what follows stays in the cache

AllPlacements = dict[str, Placements]  # setting -> what became of T trials x Q queries


class Scores:
    """One setting's scores in percent: means over its trials, and the trials' own values.

    `std` is the sample standard deviation over trials (divided by n - 1), None where there is only one. `outcomes`,
    what became of each query, is what `ci` draws from; scores that were made without have no intervals.
    No dataclass, for torchmetrics would reach into it and squeeze its tensors.
    """

    def __init__(
        self,
        curves: Tensor,
        average_precision: Tensor,
        inverse_negative_penalty: Tensor,
        measured: str,
        outcomes: Outcomes | None = None,
    ) -> None:
        """From each trial's CMC curve (T, R) and means over queries (T,), shares of one; `measured` says how."""
        self.curves = 100 * curves  # (T, R)
        self.measured = measured
        self.outcomes = outcomes
        last = curves.shape[1] - 1
        self.trials: dict[str, list[float]] = {
            **{name: self.curves[:, min(k - 1, last)].tolist() for name, k in RANKS.items()},
            "mAP": (100 * average_precision).tolist(),
            "mINP": (100 * inverse_negative_penalty).tolist(),
        }

    @classmethod
    def of(cls, outcomes: Outcomes, measured: str) -> Scores:
        matched = (outcomes.first > 0).sum(1)  # (T,)
        length = int(outcomes.first.max())
        return cls(
            torch.stack([cumulative_matches(trial[trial > 0], length) for trial in outcomes.first]),
            outcomes.average_precision.sum(1) / matched,
            outcomes.inverse_negative_penalty.sum(1) / matched,
            measured,
            outcomes,
        )

    def __repr__(self) -> str:
        means = ", ".join(f"{name}={fmean(values):.2f}" for name, values in self.trials.items())
        return f"Scores({means}; {self.measured})"

    @property
    def cmc(self) -> Tensor:
        """(R,) the mean curve over trials, up to the rank where it reaches 100 and stays there."""
        return self.curves.mean(0)

    @property
    def means(self) -> dict[str, float]:
        """Over trials, by the score's name."""
        return {name: fmean(values) for name, values in self.trials.items()}

    @property
    def std(self) -> dict[str, float | None]:
        return {name: stdev(values) if len(values) > 1 else None for name, values in self.trials.items()}

    @cached_property
    def ci(self) -> dict[str, tuple[float, float]]:
        """95 % intervals, as other people would have it; computed when first asked for."""
        if self.outcomes is None:
            return {}
        people = by_person(self.outcomes)
        low, high = ratio_interval(people.sums, people.sizes)
        return dict(zip(NAMES, zip((100 * low).tolist(), (100 * high).tolist(), strict=True), strict=True))

    @property
    def r1(self) -> float:
        return fmean(self.trials["r1"])

    @property
    def r5(self) -> float:
        return fmean(self.trials["r5"])

    @property
    def r10(self) -> float:
        return fmean(self.trials["r10"])

    @property
    def r20(self) -> float:
        return fmean(self.trials["r20"])

    @property
    def mAP(self) -> float:
        return fmean(self.trials["mAP"])

    @property
    def mINP(self) -> float:
        return fmean(self.trials["mINP"])


@torch.no_grad()
def evaluate(
    embeddings: Tensor, catalogue: Catalogue, protocol: RetrievalProtocol, *, rerank: Reranker | None = None
) -> dict[str, Scores]:
    """Scores of every setting of the protocol. `embeddings` (N, D) are the catalogue's, row by row, on CPU or GPU.

    With `rerank` each setting is followed by "SETTING + NAME", the same after re-ranking.
    """
    check_embeddings(embeddings, len(catalogue))
    lengths = _lengths(embeddings)
    _check_finite(lengths, catalogue)
    scores: dict[str, Scores] = {}
    with full_precision(embeddings.device):
        retrieval = Retrieval(embeddings, catalogue, protocol, lengths)
        for search in protocol.searches(catalogue):
            _check_inhabited(search)
            queries = search.queries
            plain = _scores(retrieval.rank(search), catalogue, queries, _measured(protocol, "no re-ranking"))
            reranked = (
                _scores(retrieval.rerank(search, rerank), catalogue, queries, _measured(protocol, str(rerank)))
                if rerank
                else {}
            )
            for setting, score in plain.items():
                scores[setting] = score
                if rerank:
                    scores[f"{setting}{RERANKED}{rerank.name}"] = reranked[setting]
    return scores


class Retrieval:
    """Embeddings, whom they show, and the protocol under which they meet."""

    def __init__(
        self, embeddings: Tensor, catalogue: Catalogue, protocol: RetrievalProtocol, lengths: Tensor | None = None
    ) -> None:
        self.embeddings = embeddings
        self.lengths = _lengths(embeddings) if lengths is None else lengths  # (N,)
        self.catalogue = catalogue
        self.protocol = protocol
        self.identities = catalogue.identities.to(embeddings.device)
        self.centre = None if protocol.normalise else _far_off(precise(embeddings))  # (D,)

    def rank(self, search: Search) -> AllPlacements:
        """Every trial of every setting, from one similarity matrix of the queries and all images that a trial uses."""
        galleries = [images for trials in search.galleries.values() for images in trials]
        used = torch.tensor(list(dict.fromkeys(torch.cat(galleries).tolist())))  # (U,)
        column = torch.empty(len(self.catalogue), dtype=torch.int64).scatter_(0, used, torch.arange(len(used)))
        chosen = [
            [
                (column[images].to(self.embeddings.device), self._gallery(images[0]))
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
            return rank(similarity, identities, self._gallery(images), self.protocol.cmc)

        return {
            setting: Placements(*map(torch.stack, zip(*map(placed, trials), strict=True)))
            for setting, trials in search.galleries.items()
        }

    def _of_the_same_people(self, trials: Sequence[Tensor]) -> Iterator[Tensor]:
        """The trials, those in one (T, G) whose galleries show the same people, column by column."""
        by_identity = [images[self.catalogue.identities[images].argsort(stable=True)] for images in trials]
        for _, same in groupby(by_identity, lambda images: self.catalogue.identities[images].tolist()):
            yield torch.stack(list(same))

    def _gallery(self, images: Tensor) -> Gallery:
        return Gallery(self.identities[images])

    def _as_they_are(self, rows: Tensor) -> Tensor:
        chosen = _empty(len(rows), self.embeddings.shape[1], self.embeddings)
        return precise(torch.index_select(self.embeddings, 0, rows.to(self.embeddings.device), out=chosen))

    def embeddings_of(self, rows: Tensor) -> Tensor:
        """A copy of these rows as the protocol compares them, in float32 or better.

        Distances do not know where the origin is, but their digits do: it is brought to those that are far from it.
        """
        chosen = self._as_they_are(rows)
        if self.centre is not None:
            return chosen.sub_(self.centre)
        return chosen.div_(self.lengths[rows.to(chosen.device)].clamp(min=1e-12)[:, None])

    def _similarity(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Cosines, or what orders each row as negative Euclidean distances do: the query's own square is left out."""
        found = _empty(len(queries), len(gallery), queries)
        if self.protocol.normalise:
            return torch.mm(queries, gallery.T, out=found)
        return torch.addmm(-gallery.square().sum(1) / 2, queries, gallery.T, out=found)

    def remove_ignored(self, similarity: Tensor, queries: Tensor, gallery: Catalogue) -> None:
        ignored = self.protocol.ignored(self.catalogue[queries], gallery)
        if ignored is not None:
            similarity.masked_fill_(ignored.to(similarity.device), REMOVED)


def _empty(rows: int, columns: int, like: Tensor) -> Tensor:
    """(rows, columns) to be filled. On CPU by numpy, which asks for huge pages: half of a large copy is waiting for
    small ones."""
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


def check_embeddings(embeddings: Tensor, images: int) -> None:
    """Raise a `UserError` unless these are numbers to compare, one row for each image."""
    if embeddings.ndim != 2 or len(embeddings) != images:
        raise UserError(f"Embeddings of {images} images should be one row each, got {tuple(embeddings.shape)}")
    if embeddings.shape[1] == 0:
        raise UserError(f"Embeddings of {images} images are 0 wide: there is nothing to compare")
    if not embeddings.is_floating_point():
        raise UserError(f"Embeddings should be floating-point numbers, got {embeddings.dtype}")


def check_matches(catalogue: Catalogue, protocol: RetrievalProtocol) -> None:
    """Raise a `UserError` where a setting has nothing to score, whatever the embeddings will be."""
    for search in protocol.searches(catalogue):
        _check_inhabited(search)
        for setting, galleries in search.galleries.items():
            if not all(any_match(catalogue, protocol, search.queries, gallery) for gallery in galleries):
                raise UserError(_nothing_to_score(setting))


def any_match(catalogue: Catalogue, protocol: RetrievalProtocol, queries: Tensor, gallery: Tensor) -> bool:
    """Whether one of the queries has a true match in the gallery; both are rows of the catalogue."""
    images = catalogue[gallery]
    for rows in queries.split(128):  # the first few will do
        asked = catalogue[rows]
        matches = asked.identities[:, None] == images.identities
        ignored = protocol.ignored(asked, images)
        if bool((matches if ignored is None else matches & ~ignored).any()):
            return True
    return False


def _nothing_to_score(setting: str) -> str:
    return (
        f"{setting}: no query has a true match in the gallery, so there is nothing to score. (Where a folder's "
        "camera numbers stand for two cameras each: protocol.same_camera=false.)"
    )


def _scores(ranks: AllPlacements, catalogue: Catalogue, queries: Tensor, measured: str) -> dict[str, Scores]:
    scores = {}
    for setting, placed in ranks.items():
        outcomes = Outcomes(queries, catalogue.identities[queries], *(column.cpu() for column in placed))
        matched = int((outcomes.first > 0).sum(1).min())
        if matched == 0:
            raise UserError(_nothing_to_score(setting))
        left_out = f"; {matched} of {len(queries)} queries have a true match" if matched < len(queries) else ""
        scores[setting] = Scores.of(outcomes.of((outcomes.first > 0).any(0)), measured + left_out)
    return scores


def _measured(protocol: RetrievalProtocol, reranking: str) -> str:
    distance = "cosine similarity" if protocol.normalise else "Euclidean distance of un-normalised embeddings"
    scored_by = f"{type(protocol).__name__} version {protocol.version}"
    return "; ".join([distance, f"{protocol.cmc} CMC", protocol.draw, reranking, scored_by])


def _lengths(embeddings: Tensor) -> Tensor:
    return embeddings.norm(dim=1, dtype=at_least_float32(embeddings.dtype))


def _check_finite(lengths: Tensor, catalogue: Catalogue) -> None:
    broken = (~lengths.isfinite()).nonzero().flatten().tolist()  # a length is finite where all its numbers are
    if broken:
        named = ", ".join(f"row {row} ({catalogue.paths[row]})" for row in broken[:5])
        more = ", …" if len(broken) > 5 else ""
        raise UserError(
            f"{len(broken)} of {len(catalogue)} embeddings are not finite numbers, "
            f"or have no finite length: {named}{more}"
        )


def _check_inhabited(search: Search) -> None:
    for setting, galleries in search.galleries.items():
        if len(search.queries) == 0:
            raise UserError(f"{setting}: there are no query images")
        if any(len(gallery) == 0 for gallery in galleries):
            raise UserError(f"{setting}: there are no gallery images")
