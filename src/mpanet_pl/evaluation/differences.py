"""Does one method find more than another? Paired over the same queries; the units are people and runs.

A run's score differs from another run's because people answer otherwise (person by run), and because the run is
another (run). The variance of a difference is that among people of their mean differences, which holds person by run
already, plus what runs lie apart beyond it, with the degrees of freedom of Satterthwaite (of all that they lie apart,
for that little of it is beyond may be chance). With one run a side there is
no second part: the answer is about these two networks. Where the same networks answer on both sides, how far their
differences lie apart takes the runs' place. Few people often make the whole difference: random flips of each person's
difference say how far the statistic reaches by chance, and scale the people's part. docs/background/simulations.md has
the simulation.
"""

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

import torch
from scipy.special import stdtr, stdtrit
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.intervals import LEVEL, TAIL, Interval, share_and_variance, share_interval
from mpanet_pl.evaluation.outcomes import NAMES, Outcomes, People, by_person
from mpanet_pl.evaluation.pairing import Answers, by_split

FLIPS = 1999
POWER = 0.8


class Spread(NamedTuple):
    """Variance of K estimates, and its degrees of freedom."""

    variance: Tensor  # (K,)
    freedom: Tensor  # (K,)


class Difference(NamedTuple):
    """How much more the second finds than the first, for each of `NAMES`: (6,) in percentage points."""

    mean: Tensor
    low: Tensor
    high: Tensor
    p: Tensor  # of no difference; below 0.05 where the interval leaves 0 out
    people: int
    queries: int
    runs: tuple[int, int]
    about: str  # two networks, two recipes, two test ways
    error: Tensor  # standard error, in points
    freedom: Tensor
    parts: Tensor  # (3, 6) points: by how much other people, other runs and other galleries move it, standard errors

    @property
    def of_runs(self) -> bool:
        return max(self.runs) > 1

    def beyond(self, margin: float) -> tuple[Tensor, Tensor]:
        """p-values (6,) of being worse by `margin` points or more, and of being better by as much: one-sided each."""
        error = self.error.clamp(min=1e-12)
        return tuple(
            torch.from_numpy(stdtr(self.freedom.numpy(), -((margin + sign * self.mean) / error).numpy()))
            for sign in (1, -1)
        )  # type: ignore[return-value]

    @property
    def tellable(self) -> Tensor:
        """(6,) points: the difference that so many people and runs tell four times of five, at 0.05."""
        steps = [torch.from_numpy(stdtrit(self.freedom.numpy(), level)) for level in (1 - TAIL, POWER)]
        return (steps[0] + steps[1]) * self.error


def compare(first: Sequence[Answers], second: Sequence[Answers]) -> Difference:
    """The repeats of one method against those of another. Each has to have been asked the same queries.

    Runs over several splits (RegDB's trials) are paired split by split; runs over one split are where they are of the
    same networks.
    """
    splits = by_split(first, second)
    differences, galleries, queries = [], torch.zeros(len(NAMES)).double(), 0
    for split in splits:
        ours, theirs = ([by_person(one) for one in runs] for runs in split.sides)
        galleries += _over_galleries(*split.sides) / len(splits) ** 2
        differences.append(_mean(theirs)._replace(sums=_mean(theirs).sums - _mean(ours).sums))
        queries += len(split.sides[0][0].queries)
    people = _together(differences)
    if len(people.sizes) < 2:
        raise UserError("All queries are of one person, whom no comparison can tell from another.")
    if len(splits) > 1:
        of_runs = [differences]
    elif splits[0].of_same_networks:
        of_runs = [[b._replace(sums=b.sums - a.sums) for a, b in zip(ours, theirs, strict=True)]]
    else:
        of_runs = [ours, theirs]
    found = _difference(people, of_runs, galleries)
    return found._replace(queries=queries, runs=(len(first), len(second)), about=_about(first, second))


def difference(sides: Sequence[Sequence[People]]) -> Difference:
    """Of two methods' runs over one split, from what each person adds to each run's scores."""
    first, second = map(_mean, sides)
    return _difference(first._replace(sums=second.sums - first.sums), sides, torch.zeros(first.sums.shape[1]))


def _difference(people: People, of_runs: Sequence[Sequence[People]], galleries: Tensor) -> Difference:
    mean, variance = share_and_variance(people.sums, people.sizes)
    among = variance * flipped(people)
    spread = two_levels(among, of_runs, len(people.sizes))
    error = (spread.variance + mean.square() / len(people.sizes) ** 2).sqrt()  # some, where all differ by the same
    steps = (mean.abs() / error.clamp(min=1e-12)).numpy()
    reach = torch.from_numpy(stdtrit(spread.freedom.numpy(), 1 - TAIL)) * error
    return Difference(
        100 * mean,
        100 * (mean - reach).clamp(min=-1),
        100 * (mean + reach).clamp(max=1),
        torch.from_numpy(2 * stdtr(spread.freedom.numpy(), -steps)),
        len(people.sizes),
        0,
        (len(of_runs[0]), len(of_runs[-1])),
        "",
        100 * error,
        spread.freedom,
        100 * torch.stack([among, spread.variance - among, galleries]).sqrt(),
    )


def _over_galleries(ours: Sequence[Outcomes], theirs: Sequence[Outcomes]) -> Tensor:
    """(6,) variance of a difference's mean over its trials' galleries; 0 of one gallery, which stays as it is."""

    def of_trials(runs: Sequence[Outcomes]) -> Tensor:  # (T, 6)
        return torch.stack([one.values().sum(1) / (one.first > 0).sum(1, keepdim=True) for one in runs]).mean(0)

    trials = of_trials(theirs) - of_trials(ours)
    return trials.var(0) / len(trials) if len(trials) > 1 else torch.zeros_like(trials[0])


def two_levels(among_people: Tensor, sides: Sequence[Sequence[People]], people: int) -> Spread:
    """Variance among people (K,), plus what the runs of each side lie apart beyond what person by run explains.

    One run alone is taken to spread as the other side's do.
    """
    several = [runs for runs in sides if len(runs) > 1]
    among = torch.full_like(among_people, max(people - 1, 1))
    if not several:
        return Spread(among_people, among)
    freedom = sum(len(runs) - 1 for runs in several)
    apart, explained = (sum(parts) / freedom for parts in zip(*map(_of_runs, several), strict=True))
    of_mean = sum(1 / len(runs) for runs in sides)
    runs, beyond = of_mean * apart, of_mean * (apart - explained).clamp(min=0)
    total = among_people + beyond
    parts = among_people.square() / among + runs.square() / freedom  # of all they lie apart: a part below 0 is chance
    return Spread(total, (total.square() / parts.clamp(min=1e-300)).clamp(min=1, max=1e6))


def _of_runs(runs: Sequence[People]) -> tuple[Tensor, Tensor]:
    """Sums of squares (K,) of the runs' scores about their mean, and of those that person by run alone would give."""
    scores = torch.stack([run.sums.sum(0) for run in runs])  # (R, K)
    deviations = scores - scores.mean(0)
    everyone = torch.cat([run.identities for run in runs]).unique()
    own = torch.zeros(len(runs), len(everyone), scores.shape[1]).double()
    there, sizes = torch.zeros(2, len(runs), len(everyone), 1).double()
    for number, run in enumerate(runs):
        place = torch.searchsorted(everyone, run.identities)
        own[number, place] = run.sums - deviations[number] * run.sizes[:, None]
        there[number, place], sizes[number, place] = 1, run.sizes[:, None]
    times = there.sum(0)  # (I, 1): in how many runs a person is
    residual = (own - own.sum(0) / times) * there * (times / (times - 1).clamp(min=1)).sqrt()
    residual = residual.where(times > 1, (own - scores.mean(0) * sizes) * there)
    factor = len(everyone) / max(len(everyone) - 1, 1) * (len(runs) - 1) / len(runs)
    return deviations.square().sum(0), residual.square().sum((0, 1)) * factor


def flipped(people: People, *, flips: int = FLIPS, seed: int = 0) -> Tensor:
    """(K,): by what the people's variance is to be multiplied, so that Student's law tells as often as flips do.

    Each person's difference gets a random sign, all queries together. Of equal statistics half count as beyond.
    """
    sums, sizes, count = people.sums, people.sizes / people.sizes.sum(), len(people.sizes)
    signs = torch.randint(2, (flips, count), generator=torch.Generator().manual_seed(seed)).double() * 2 - 1
    totals = signs @ sums  # (F, K)
    squares = sums.square().sum(0) - 2 * totals * (signs @ (sums * sizes[:, None])) + totals**2 * sizes.square().sum()
    errors = (squares.clamp(min=0) * count / (count - 1) + totals**2 / count**2).sqrt()
    steps = (totals.abs() / errors.clamp(min=1e-12)).sort(0).values
    limit = steps[int(LEVEL * flips)]  # (K,)
    near = (steps - limit).abs() <= 1e-9 * limit
    beyond = ((steps > limit) & ~near).double().mean(0) + near.double().mean(0) / 2
    usual = torch.from_numpy(stdtrit(count - 1, (1 - beyond / 2).numpy()))
    return torch.where(limit > 0, (limit / usual.clamp(min=1e-12)).square(), 1.0)


def _about(first: Sequence[Answers], second: Sequence[Answers]) -> str:
    """What a difference is about."""
    networks = [{run.network for run in runs} for runs in (first, second)]
    if None not in networks[0] and networks[0] == networks[1]:
        return "two test ways"
    return "two recipes" if max(len(first), len(second)) > 1 else "two networks"


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
    """Of the mean of each of `NAMES` over runs, two of (6,), shares of one: other people, and other runs."""
    each = [by_person(run.outcomes) for run in runs]
    people = _together(each)
    share, variance = share_and_variance(people.sums, people.sizes)
    return share_interval(share, *two_levels(variance, [each], len(people.sizes)), len(people.sizes))


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
