"""The score of the best impostor among n people: measured by subsampling, carried on by an extreme-value law.

A search for somebody who is not enrolled meets n people, and the best of them decides whether there is a false alarm.
From the scores of everybody's search for everybody else, the chance that none of n chosen people reaches a score is a
hypergeometric share, without any drawing. Beyond the people that there are, a law continues: vectors within an angle of
a query are a share of all that falls as a power of the angle's sine (the local intrinsic dimension), so that
-log(1 - cosine²) of the best impostor grows with log n, and its tail is Gumbel's (Coles, An Introduction to Statistical
Modeling of Extreme Values, chapters 3 and 4; Levina and Bickel, 2004). scripts/thresholds.py tries it on made people.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import gammaln, ndtri

WINDOW = 12  # the law is fitted to galleries of M / 12 to M people
POINTS = 8  # sizes to which it is fitted
GROUPS = 20  # of people left out in turn
NEAREST = 64  # people whom a query keeps: those behind them are never the best of M / 12
WIDER = 4  # the tail's scale lies between a rate and four times that rate
SURE = 0.9
OF_THE_JACKKNIFE = 0.5  # its variance of such quantiles is about twice the true one: scripts/thresholds.py
LEAST = 4  # people to search
ALIKE = 1e-6  # a tail's scale below which all scores are one
DIGITS = 5  # of scores: a and b look as alike as b and a, however a product rounds
ABOVE = 1e-5
TINY = 1e-12
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(15)


class Scale(NamedTuple):
    """On which scores the best impostor's tail is Gumbel's."""

    of: Callable[[Any], Any]
    back: Callable[[Any], Any]


SCALES = {  # by a protocol's similarity; distances are negative
    "cosine": Scale(
        lambda cosine: -np.log(np.maximum(1 - np.clip(cosine, 0, 1) ** 2, TINY)),
        lambda score: np.sqrt(np.maximum(1 - np.exp(-score), 0)),
    ),
    "euclidean": Scale(lambda near: -2 * np.log(np.maximum(-near, TINY)), lambda score: -np.exp(-score / 2)),
    "product": Scale(lambda product: product, lambda score: score),
}


class Law(NamedTuple):
    """Of one false-alarm rate: the score that this share of best impostors reaches, on a scale of SCALES."""

    rate: float
    place: float  # in a gallery of `people` people
    slope: float  # for each e-fold of the gallery
    scale: float  # of the best impostor's tail
    errors: tuple[float, float, float]  # variances of place and slope, and between the two their covariance
    people: int  # who were searched: those who calibrate, less the one who searches

    def at(self, enrolled: int, *, cautious: bool = False) -> float:
        """The score for a gallery of so many.

        By default its rate, averaged over other people who might have calibrated, is the promise; `cautious`, its rate
        is at most the promise with a confidence of `SURE`. Extrapolating adds variance, which raises the average.
        """
        far = self._far(enrolled)
        shift = ndtri(SURE) * self._spread(far) if cautious else _shift(self.rate, self._extra(far))
        return float(self.place + self.slope * far + self.scale * shift)

    def rates(self, score: float, enrolled: int) -> tuple[float, float]:
        """What any score promises there: the rate expected, and what it is below with a confidence of `SURE`."""
        far = self._far(enrolled)
        level = _level(self.rate) - (score - self.place - self.slope * far) / self.scale
        return _mean_rate(level, self._extra(far)), _rate(level + ndtri(SURE) * self._spread(far))

    def _far(self, enrolled: int) -> float:
        """E-folds of the gallery; one smaller than the law was fitted to is treated as the smallest."""
        return float(max(np.log(enrolled / self.people), -np.log(WINDOW)))

    def _spread(self, far: float) -> float:
        """Standard error of the rate's level."""
        place, both, slope = self.errors
        return float(np.sqrt(max(place + 2 * far * both + far**2 * slope, 0.0)) / self.scale)

    def _extra(self, far: float) -> float:
        """The error that raises the average rate: what the law adds to the people's own, of which the k-th highest of n
        already takes k / (n + 1) off where people are independent; half of it remains, for each is searched by all."""
        return float(np.sqrt(OF_THE_JACKKNIFE * max(self._spread(far) ** 2 - self._spread(0.0) ** 2 / 2, 0.0)))


def chance_of_none(reaching: np.ndarray, people: int, enrolled: int) -> np.ndarray:
    """That none of `reaching` (…) among `people` is one of `enrolled` chosen from them."""
    others = people - np.asarray(reaching, dtype=float)
    possible = others >= enrolled
    others = np.where(possible, others, enrolled)
    logs = gammaln(others + 1) - gammaln(others - enrolled + 1) - gammaln(people + 1) + gammaln(people - enrolled + 1)
    return np.where(possible, np.exp(logs), 0.0)


def false_alarms(best: np.ndarray, threshold: float, enrolled: int) -> float:
    """Of galleries of `enrolled` people: `best` (Q, M) are a query's scores of others, one each."""
    reaching = (best >= threshold).sum(1)
    return float(1 - chance_of_none(reaching, best.shape[1], enrolled).mean())


def laws_of(best: np.ndarray, own: np.ndarray, rates: Sequence[float]) -> tuple[Law, ...]:
    """From each query's scores of N people (Q, N), on a scale of SCALES; its own person's column is `own` (Q,).

    None where all scores are alike. The errors are those of a jackknife over people, left out as queries and impostors.
    """
    people = best.shape[1]
    found = _fit(best, own, rates)
    if found is None:
        return ()
    group = np.arange(people) % min(GROUPS, people)
    without = []
    for left_out in range(group.max() + 1):
        kept = group != left_out
        rows, column = kept[own], np.cumsum(kept) - 1
        part = _fit(best[rows][:, kept], column[own[rows]], rates, at=people - 1)
        if part is not None:
            without.append(part[:, :2])
    if len(without) < 3:
        return ()
    laws = []
    for rate, (place, slope, scale), others in zip(rates, found.tolist(), np.stack(without, axis=1), strict=True):
        apart = others - others.mean(0)
        (one, both), (_, other) = ((len(apart) - 1) / len(apart) * apart.T @ apart).tolist()
        laws.append(Law(rate, place, slope, scale, (one, both, other), people - 1))
    return tuple(laws)


def _fit(best: np.ndarray, own: np.ndarray, rates: Sequence[float], at: int | None = None) -> np.ndarray | None:
    """(R, 3) place, slope and scale of each rate's law, placed `at` so many people; None where it cannot be fitted."""
    people = best.shape[1] - 1
    if people < LEAST or not len(best):
        return None
    scores, ranks = _pooled(best, own)
    sizes = np.unique(np.geomspace(max(2, people / WINDOW), people, POINTS).round().astype(int))
    # A new person exceeds the k-th of n with a chance of k / (n + 1).
    asked = np.array(rates) * (people + 2) / (people + 1)
    wider = np.minimum(WIDER * np.array(rates), 0.5)
    high = np.array([_reached(scores, ranks, people, size, asked, len(best)) for size in sizes])  # (P, R)
    slopes, places = np.polyfit(np.log(sizes / (at or people)), high, 1)
    low = _reached(scores, ranks, people, people, wider, len(best))
    scales = (high[-1] - low) / (_level(wider) - _level(np.array(rates)))
    return np.stack([places, slopes.clip(0), scales], axis=1) if (scales > ALIKE).all() else None


def _pooled(best: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All scores (S,), falling, and the rank of each among its query's, from 0."""
    scores = np.array(best, dtype=float)
    scores[~np.isfinite(scores)] = scores[np.isfinite(scores)].min()  # whom a query does not meet is no impostor
    scores[np.arange(len(own)), own] = -np.inf
    kept = min(NEAREST, scores.shape[1] - 1)
    scores = -np.sort(np.partition(-scores, kept - 1, axis=1)[:, :kept], axis=1)
    ranks = np.broadcast_to(np.arange(kept), scores.shape).ravel()
    scores = scores.round(DIGITS)
    order = np.argsort(-scores.ravel(), kind="stable")
    return scores.ravel()[order], ranks[order]


def _reached(
    scores: np.ndarray, ranks: np.ndarray, people: int, size: int, rates: np.ndarray, queries: int
) -> np.ndarray:
    """The scores (R,) that `rates` of the queries' best of `size` people reach, between the scores that there are."""
    first = size / people * chance_of_none(np.arange(ranks.max() + 1), people - 1, size - 1)
    reached = np.cumsum(first[ranks]) / queries
    last = np.append(scores[1:] != scores[:-1], True)  # of equal scores
    scores, reached = scores[last], reached[last]
    scores = np.concatenate([scores[:1] * (1 + ABOVE) + ABOVE, scores])  # nobody reaches more than all of them
    reached = np.concatenate([[0.0], reached])
    place = np.searchsorted(reached, rates * (1 + 1e-9), side="right").clip(max=len(scores) - 1)
    before, after = reached[place - 1], reached[place]
    part = np.where(before > 0, np.log(rates / np.maximum(before, TINY)) / np.log(after / np.maximum(before, TINY)), 0)
    return scores[place - 1] + part.clip(0, 1) * (scores[place] - scores[place - 1])


def _level(rate: Any) -> Any:
    """The complementary log-log of a rate: Gumbel's tail is a line in it."""
    return np.log(-np.log1p(-rate))


def _rate(level: float) -> float:
    return float(-np.expm1(-np.exp(level)))


def _mean_rate(level: float, spread: float) -> float:
    """Over normal errors of the level."""
    return float(WEIGHTS @ -np.expm1(-np.exp(level + spread * NODES)) / WEIGHTS.sum())


def _shift(rate: float, spread: float) -> float:
    """By how much the level has to fall so that its rate is `rate` on average."""
    low, high = 0.0, spread**2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _mean_rate(_level(rate) - middle, spread) > rate else (low, middle)
    return (low + high) / 2
