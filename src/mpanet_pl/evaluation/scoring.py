"""From embeddings to scores: every setting and trial of a protocol, and what is refused before."""

from __future__ import annotations

from functools import cached_property
from statistics import fmean, stdev

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.digests import Met
from mpanet_pl.evaluation.intervals import ratio_interval
from mpanet_pl.evaluation.outcomes import NAMES, RANKS, RERANKED, Outcomes, People, by_person, by_unit
from mpanet_pl.evaluation.ranking import cumulative_matches
from mpanet_pl.evaluation.retrieval import AllPlacements, Retrieval, any_match, lengths_of
from mpanet_pl.interfaces import Reranker, RetrievalProtocol, Search
from mpanet_pl.system.precision import full_precision

DISTANCES = {
    "cosine": "cosine similarity",
    "euclidean": "Euclidean distance of un-normalised embeddings",
    "product": "inner product of un-normalised embeddings",
}


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
        met: Met | None = None,
    ) -> None:
        """From each trial's CMC curve (T, R) and means over queries (T,), shares of one; `measured` says how."""
        self.curves = 100 * curves  # (T, R)
        self.measured = measured
        self.outcomes = outcomes
        self.met = met  # digests of the queries and their galleries
        last = curves.shape[1] - 1
        self.trials: dict[str, list[float]] = {
            **{name: self.curves[:, min(k - 1, last)].tolist() for name, k in RANKS.items()},
            "mAP": (100 * average_precision).tolist(),
            "mINP": (100 * inverse_negative_penalty).tolist(),
        }

    @classmethod
    def of(cls, outcomes: Outcomes, measured: str, met: Met | None = None) -> Scores:
        matched = (outcomes.first > 0).sum(1)  # (T,)
        length = int(outcomes.first.max())
        return cls(
            torch.stack([cumulative_matches(trial[trial > 0], length) for trial in outcomes.first]),
            outcomes.average_precision.sum(1) / matched,
            outcomes.inverse_negative_penalty.sum(1) / matched,
            measured,
            outcomes,
            met,
        )

    def __repr__(self) -> str:
        means = ", ".join(f"{name}={mean:.2f}" for name, mean in self.means.items())
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
        return _intervals(by_person(self.outcomes))

    def interval(self, units: Tensor) -> dict[str, tuple[float, float]]:
        """95 % intervals, as other units would have it: `units` (N,) int64 numbers the catalogue's images.

        `catalogue.cameras`, its tracks or the days of its times; at least two of them have queries.
        """
        if self.outcomes is None:
            return {}
        found = by_unit(self.outcomes, units[self.outcomes.queries])
        if len(found.sizes) < 2:
            raise UserError("An interval over units needs at least two of them among the queries.")
        return _intervals(found)

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


def _intervals(people: People) -> dict[str, tuple[float, float]]:
    low, high = ratio_interval(people.sums, people.sizes)
    return dict(zip(NAMES, zip((100 * low).tolist(), (100 * high).tolist(), strict=True), strict=True))


@torch.no_grad()
def evaluate(
    embeddings: Tensor, catalogue: Catalogue, protocol: RetrievalProtocol, *, rerank: Reranker | None = None
) -> dict[str, Scores]:
    """Scores of every setting of the protocol. `embeddings` (N, D) are the catalogue's, row by row, on CPU or GPU.

    With `rerank` each setting is followed by "SETTING + NAME", the same after re-ranking.
    """
    check_embeddings(embeddings, len(catalogue))
    lengths = lengths_of(embeddings)
    check_finite(lengths, catalogue)
    scores: dict[str, Scores] = {}
    with full_precision(embeddings.device):
        for search in protocol.searches(catalogue):
            _check_inhabited(search)
            retrieval = Retrieval(embeddings, catalogue, search.measured_by or protocol, lengths)
            found = {"": _scores(retrieval, search, retrieval.rank(search), "no re-ranking")}
            if rerank:
                reranked = _scores(retrieval, search, retrieval.rerank(search, rerank), str(rerank))
                found[f"{RERANKED}{rerank.name}"] = reranked
            scores |= {setting + way: of[setting] for setting in search.galleries for way, of in found.items()}
    return scores


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


def _nothing_to_score(setting: str) -> str:
    return (
        f"{setting}: no query has a true match in the gallery, so there is nothing to score. (Where a folder's "
        "camera numbers stand for two cameras each: protocol.same_camera=false.)"
    )


def _scores(retrieval: Retrieval, search: Search, ranks: AllPlacements, reranking: str) -> dict[str, Scores]:
    scores, queries, catalogue = {}, search.queries, retrieval.catalogue
    measured = _measured(retrieval.protocol, reranking)
    for setting, placed in ranks.items():
        outcomes = Outcomes(queries, catalogue.identities[queries], *(column.cpu() for column in placed))
        matched = int((outcomes.first > 0).sum(1).min())
        if matched == 0:
            raise UserError(_nothing_to_score(setting))
        left_out = f"; {matched} of {len(queries)} queries have a true match" if matched < len(queries) else ""
        met = Met.of(catalogue, queries, search.galleries[setting])
        scores[setting] = Scores.of(outcomes.of((outcomes.first > 0).any(0)), measured + left_out, met)
    return scores


def _measured(protocol: RetrievalProtocol, reranking: str) -> str:
    ways = DISTANCES[protocol.similarity], f"{protocol.cmc} CMC", protocol.draw, reranking, name_of(protocol)
    return "; ".join(ways)


def name_of(protocol: RetrievalProtocol) -> str:
    return f"{protocol.title or type(protocol).__name__} version {protocol.version}"


def check_finite(lengths: Tensor, catalogue: Catalogue) -> None:
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
