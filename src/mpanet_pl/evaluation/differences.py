"""Does one method find more than another? Paired over the same queries; the units are people and runs.

A run's score differs from another run's because people answer otherwise (person by run), and because the run is
another (run). The variance of a difference is that among people of their mean differences, which holds person by run
already, plus what runs lie apart beyond it, with the degrees of freedom of Satterthwaite. With one run a side there is
no second part: the answer is about these two networks. Where the same networks answer on both sides, how far their
differences lie apart takes the runs' place. Few people often make the whole difference: random flips of each person's
difference say how far the statistic reaches by chance, and scale the people's part. docs/background/simulations.md has
the simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import NamedTuple

import torch
from scipy.special import stdtr, stdtrit
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.digests import Met, check_images, check_met
from mpanet_pl.evaluation.intervals import LEVEL, TAIL, Interval, share_and_variance, share_interval
from mpanet_pl.evaluation.outcomes import NAMES, Outcomes, People, by_person

FLIPS = 1999
POWER = 0.8


class Answers(NamedTuple):
    """One run's queries in one setting, and the paths of the catalogue that they are rows of."""

    outcomes: Outcomes
    paths: Sequence[str]
    network: str | None = None  # which gave them: a digest, or another name
    met: Met | None = None  # None: a release before 0.3 kept no digests; likewise the next
    images: str | None = None  # digest of the test images


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
    splits, others = _by_split(first), _by_split(second)
    if splits.keys() != others.keys():
        raise UserError(_not_the_same(first, second))
    differences, queries = [], 0
    for asked in splits:
        sides, of_same_networks = _by_network(splits[asked], others[asked])
        ours, theirs = ([by_person(one) for one in runs] for runs in _aligned(asked, *sides))
        differences.append(_mean(theirs)._replace(sums=_mean(theirs).sums - _mean(ours).sums))
        queries += len(asked)
    people = _together(differences)
    if len(people.sizes) < 2:
        raise UserError("All queries are of one person, whom no comparison can tell from another.")
    if len(splits) > 1:
        of_runs = [differences]
    elif of_same_networks:
        of_runs = [[b._replace(sums=b.sums - a.sums) for a, b in zip(ours, theirs, strict=True)]]
    else:
        of_runs = [ours, theirs]
    return _difference(people, of_runs, queries, (len(first), len(second)), _about(first, second))


def difference(sides: Sequence[Sequence[People]]) -> Difference:
    """Of two methods' runs over one split, from what each person adds to each run's scores."""
    first, second = map(_mean, sides)
    people = first._replace(sums=second.sums - first.sums)
    return _difference(people, sides, 0, (len(sides[0]), len(sides[1])), "")


def _difference(
    people: People, of_runs: Sequence[Sequence[People]], queries: int, runs: tuple[int, int], about: str
) -> Difference:
    mean, variance = share_and_variance(people.sums, people.sizes)
    spread = two_levels(variance * flipped(people), of_runs, len(people.sizes))
    error = (spread.variance + mean.square() / len(people.sizes) ** 2).sqrt()  # some, where all differ by the same
    steps = (mean.abs() / error.clamp(min=1e-12)).numpy()
    reach = torch.from_numpy(stdtrit(spread.freedom.numpy(), 1 - TAIL)) * error
    return Difference(
        100 * mean,
        100 * (mean - reach).clamp(min=-1),
        100 * (mean + reach).clamp(max=1),
        torch.from_numpy(2 * stdtr(spread.freedom.numpy(), -steps)),
        len(people.sizes),
        queries,
        runs,
        about,
        100 * error,
        spread.freedom,
    )


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
    parts = among_people.square() / among + runs * beyond / freedom  # no leap where `beyond` begins
    return Spread(total, (total.square() / parts.clamp(min=1e-300)).clamp(min=1, max=1e6))


def _of_runs(runs: Sequence[People]) -> tuple[Tensor, Tensor]:
    """Sums of squares (K,) of the runs' scores about their mean, and of those that person by run alone would give."""
    scores = torch.stack([run.sums.sum(0) for run in runs])  # (R, K)
    deviations = scores - scores.mean(0)
    everyone = torch.cat([run.identities for run in runs]).unique()
    own = torch.zeros(len(runs), len(everyone), scores.shape[1]).double()
    there = torch.zeros(len(runs), len(everyone), 1).double()
    for number, run in enumerate(runs):
        place = torch.searchsorted(everyone, run.identities)
        own[number, place] = run.sums - deviations[number] * run.sizes[:, None]
        there[number, place] = 1
    times = there.sum(0)  # (I, 1): in how many runs a person is
    residual = (own - own.sum(0) / times) * there * (times / (times - 1).clamp(min=1)).sqrt()
    alone = own - scores.mean(0) * torch.stack([_sizes(run, everyone) for run in runs])[..., None]
    residual = residual.where(times > 1, alone * there)
    factor = len(everyone) / max(len(everyone) - 1, 1) * (len(runs) - 1) / len(runs)
    return deviations.square().sum(0), residual.square().sum((0, 1)) * factor


def _sizes(run: People, everyone: Tensor) -> Tensor:
    return torch.zeros(len(everyone)).double().index_copy_(0, torch.searchsorted(everyone, run.identities), run.sizes)


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
    for run in (one for side in sides for one in side):
        check_met(sides[0][0].met, run.met)
        check_images(sides[0][0].images, run.images)
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
