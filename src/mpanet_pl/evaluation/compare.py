"""Does one method find more than another? Paired over the same queries, person by person.

The interval of a difference is from the same bootstrap over identities as a score's own. The test flips each person's
difference at random, all queries of a person together: as if the two methods' answers for that person were exchanged.
Where a method was run several times, how far its runs lie apart counts, too: the two variances are added, with the
degrees of freedom of Satterthwaite, and the larger of the two levels' p-values is the one told. Where the same networks
answer on both sides (with and without re-ranking, say), only how far their differences lie apart counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

import torch
from scipy.special import stdtr, stdtrit
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.intervals import (
    LEVEL,
    Interval,
    Odds,
    difference_interval,
    or_unseen,
    ratio_interval,
    standard_error,
)
from mpanet_pl.evaluation.outcomes import NAMES, Outcomes, People, by_person

FLIPS = 9999


class Answers(NamedTuple):
    """One run's queries in one setting, and the paths of the catalogue that they are rows of."""

    outcomes: Outcomes
    paths: Sequence[str]
    network: str | None = None  # which gave them, by whatever name


class Difference(NamedTuple):
    """How much more the second finds than the first, for each of `NAMES`: (6,) in percentage points."""

    mean: Tensor
    low: Tensor
    high: Tensor
    p: Tensor  # of no difference
    people: int
    queries: int
    runs: tuple[int, int]  # with one of each, nothing is known of how far runs lie apart

    @property
    def of_runs(self) -> bool:
        return max(self.runs) > 1


def compare(first: Sequence[Answers], second: Sequence[Answers]) -> Difference:
    """The repeats of one method against those of another. Each has to have been asked the same queries.

    Runs over several splits (RegDB's trials) are paired split by split; runs over one split are where they are of the
    same networks.
    """
    splits, others = _by_split(first), _by_split(second)
    if splits.keys() != others.keys():
        raise UserError(_not_the_same(first, second))
    differences, spreads, queries = [], [], 0
    for asked in splits:
        sides, of_same_networks = _by_network(splits[asked], others[asked])
        ours, theirs = ([by_person(one) for one in runs] for runs in _aligned(asked, *sides))
        differences.append(_mean(theirs)._replace(sums=_mean(theirs).sums - _mean(ours).sums))
        spreads.append((ours, theirs))
        queries += len(asked)
    people = _together(differences)
    if len(people.sizes) < 2:
        raise UserError("All queries are of one person, whom no comparison can tell from another.")
    freedom: Tensor | None
    if len(splits) > 1:
        variance, freedom = _of_mean(torch.stack([difference.sums.sum(0) for difference in differences]))
    elif of_same_networks:
        apart = [theirs.sums.sum(0) - ours.sums.sum(0) for ours, theirs in zip(*spreads[0], strict=True)]
        variance, freedom = _of_mean(torch.stack(apart))
    else:
        variance, freedom = _of_two(*([one.sums.sum(0) for one in runs] for runs in spreads[0]))
    mean, p = people.sums.sum(0), sign_flip(people.sums)
    if freedom is None:
        low, high = difference_interval(people.sums, people.sizes)
    else:
        error, degrees = _two_levels(people, variance, freedom)
        low, high = mean - _quantile(degrees) * error, mean + _quantile(degrees) * error
        steps = (mean.abs() / error.clamp(min=1e-12)).numpy()
        p = torch.maximum(p, torch.from_numpy(2 * stdtr(degrees.numpy(), -steps)))
    return Difference(100 * mean, 100 * low, 100 * high, p, len(people.sizes), queries, (len(first), len(second)))


def sign_flip(sums: Tensor, *, flips: int = FLIPS, seed: int = 0) -> Tensor:
    """Two-sided p-values (K,) of people's differences (I, K): how often random signs reach as far from 0."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, (flips, len(sums)), generator=generator).double() * 2 - 1
    reached = (signs @ sums).abs() >= sums.sum(0).abs() - 1e-12
    return (1 + reached.sum(0)).double() / (1 + flips)


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted for being several, so that one of them below 0.05 by chance alone stays that rare.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, least = [nan] * len(p), 0.0
    for place, number in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min(1.0, (len(p) - place) * p[number]))
        adjusted[number] = least
    return adjusted


def interval_over_runs(runs: Sequence[Answers]) -> Interval:
    """Of the mean of each of `NAMES` over runs, two of (6,), shares of one: people and runs being drawn."""
    each = [by_person(run.outcomes) for run in runs]
    people = _together(each)
    if len(runs) == 1:
        return ratio_interval(people.sums, people.sizes)
    error, degrees = _two_levels(people, *_of_mean(torch.stack([one.sums.sum(0) for one in each])))
    scale, mean = Odds(0.5 / len(people.sizes)), people.sums.sum(0)
    reach = _quantile(degrees) * error * scale.slope(mean)
    interval = Interval(scale.back(scale.of(mean) - reach), scale.back(scale.of(mean) + reach))
    return or_unseen(interval, mean, error, len(people.sizes))


def _two_levels(people: People, variance: Tensor, freedom: Tensor) -> tuple[Tensor, Tensor]:
    """Standard error (K,) and its degrees of freedom: people's, and the `variance` of the runs' mean with `freedom`."""
    mean, of_people = people.sums.sum(0), max(len(people.sizes) - 1, 1)
    among_people = standard_error(torch.ones(1, len(people.sizes)).double(), people.sums, people.sizes, mean)[0] ** 2
    total = among_people + variance
    parts = among_people.square() / of_people + variance.square() / freedom
    return total.sqrt(), (total.square() / parts.clamp(min=1e-300)).clamp(min=1)


def _quantile(degrees: Tensor) -> Tensor:
    return torch.from_numpy(stdtrit(degrees.numpy(), (1 + LEVEL) / 2))


def _of_mean(values: Tensor) -> tuple[Tensor, Tensor]:
    """Variance of the mean of (R, K), and its degrees of freedom."""
    return values.var(0) / len(values), torch.full_like(values[0], len(values) - 1)


def _of_two(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Of the difference of two means, each over its runs; one run alone is taken to spread as the other method's do."""
    several = [torch.stack(list(runs)) for runs in (ours, theirs) if len(runs) > 1]
    if not several:
        return torch.zeros(len(NAMES)).double(), None
    if len(several) == 1:
        spread = several[0].var(0)
        return spread * (1 / len(ours) + 1 / len(theirs)), torch.full_like(spread, len(several[0]) - 1)
    parts = [_of_mean(runs) for runs in several]
    variance = parts[0][0] + parts[1][0]
    welch = sum((part.square() / freedom for part, freedom in parts), torch.zeros_like(variance)).clamp(min=1e-300)
    return variance, (variance.square() / welch).clamp(min=1)


def _mean(runs: Sequence[People]) -> People:
    return runs[0]._replace(sums=torch.stack([run.sums for run in runs]).mean(0))


def _together(splits: Sequence[People]) -> People:
    """The mean over splits, where a person may be in some of them only."""
    identities, place = torch.cat([split.identities for split in splits]).unique(return_inverse=True)
    sums = torch.zeros(len(identities), len(NAMES)).double()
    sums.index_add_(0, place, torch.cat([split.sums for split in splits]) / len(splits))
    sizes = torch.zeros(len(identities)).double()
    return People(
        identities, sums, sizes.index_add_(0, place, torch.cat([split.sizes for split in splits]) / len(splits))
    )


def _by_split(runs: Sequence[Answers]) -> dict[tuple[str, ...], list[Answers]]:
    """By the paths of their queries, sorted."""
    splits: dict[tuple[str, ...], list[Answers]] = {}
    for run in runs:
        splits.setdefault(tuple(sorted(_asked(run))), []).append(run)
    return splits


def _by_network(first: Sequence[Answers], second: Sequence[Answers]) -> tuple[list[Sequence[Answers]], bool]:
    """Both sides in one order where each of several networks answers once on either; whether that is so."""
    sides = [{run.network: run for run in runs} for runs in (first, second)]
    several = len(sides[0]) == len(first) == len(second) > 1
    if not several or None in sides[0] or sides[0].keys() != sides[1].keys():
        return [first, second], False
    return [[side[network] for network in sides[0]] for side in sides], True


def _asked(run: Answers) -> list[str]:
    return [run.paths[row] for row in run.outcomes.queries.tolist()]


def _aligned(asked: Sequence[str], *sides: Sequence[Answers]) -> list[list[Outcomes]]:
    """Everyone's outcomes with the queries in the order of `asked`."""
    aligned: list[list[Outcomes]] = []
    for runs in sides:
        aligned.append([])
        for run in runs:
            place = {path: number for number, path in enumerate(_asked(run))}
            aligned[-1].append(run.outcomes.of(torch.tensor([place[path] for path in asked])))
    model = aligned[0][0]
    for outcomes in (one for side in aligned for one in side):
        if not torch.equal(outcomes.identities, model.identities):
            raise UserError("The same queries show other people in one of them: the datasets are not the same.")
        if outcomes.first.shape != model.first.shape or not torch.equal(outcomes.first > 0, model.first > 0):
            raise UserError("The same queries met other galleries in one of them.")
    return aligned


def _not_the_same(first: Sequence[Answers], second: Sequence[Answers]) -> str:
    ours, theirs = ({path for run in runs for path in _asked(run)} for runs in (first, second))
    if ours == theirs:
        return (
            "They were asked the same queries, but in other splits: a trial or a split of one is missing in the other."
        )
    return (
        f"They were not asked the same queries: of {len(ours)} and {len(theirs)} they share {len(ours & theirs)}. "
        "(Another dataset, split or trial?)"
    )
