"""Do 95 % intervals hold the truth 95 times of 100? Worlds of made people, whose true scores many more worlds tell.

`python scripts/coverage.py [worlds [scores] [differences] [repeats]]` prints the tables of docs/statistics.md. A world
is what the interval speaks of: so many people, drawn anew, each with embeddings of a difficulty of its own, two
infrared cameras whose images err together, and unlike numbers of queries. A method's truth is its mean score
over many worlds of that size.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from mpanet_pl.evaluation.differences import Answers, compare, interval_over_runs, sign_flip
from mpanet_pl.evaluation.intervals import Interval, difference_interval, draws, ratio_interval
from mpanet_pl.evaluation.outcomes import Outcomes

SHOTS, DIM, QUERIES = 3, 12, 6  # gallery images a person, width, mean number of queries a person
REPLICATES = 600
OF_THE_GALLERY = 100  # replicates where galleries are drawn, too, and ranked anew
SINGLE = (
    (8, 0.9),
    (20, 0.9),
    (20, 0.5),
    (50, 0.9),
    (50, 0.5),
    (96, 0.9),
    (96, 0.4),
)  # people, and how noisy embeddings are
PAIRS = ((20, (0.9, 0.9)), (50, (0.9, 0.9)), (96, (0.9, 0.9)), (20, (0.9, 0.8)), (50, (0.9, 0.8)), (96, (0.9, 0.8)))
SCORES = ("R1", "mAP", "mINP")


class World(NamedTuple):
    ahead: Tensor  # (Q, SHOTS, I): how many images of each person stand before each of a query's true matches
    who: Tensor  # (Q,)
    people: int

    @property
    def sizes(self) -> Tensor:
        return torch.bincount(self.who, minlength=self.people).double()

    def sums(self) -> Tensor:
        """(I, 3) of R1, mAP and mINP."""
        values = scores_of(self.ahead.sum(2))
        return torch.zeros(self.people, 3).double().index_add_(0, self.who, values)


def make(people: int, noises: tuple[float, ...], generator: torch.Generator) -> list[World]:
    """One world as methods of several noises see it: the same people and queries, each method its own errors."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    identity, difficulty = normal(people, DIM), (normal(people) / 2).exp()
    counts = torch.randint(2, 2 * QUERIES - 1, (people,), generator=generator)
    who, of_gallery = torch.arange(people).repeat_interleave(counts), torch.arange(people).repeat_interleave(SHOTS)
    camera = torch.randint(2, (len(who),), generator=generator)
    shared_place, shared_query, shared_gallery = (
        normal(people, 2, DIM),
        normal(len(who), DIM),
        normal(len(of_gallery), DIM),
    )
    worlds = []
    for noise in noises:
        hard = difficulty * noise
        place = (shared_place + normal(people, 2, DIM)) / math.sqrt(2)
        queries = identity[who] + hard[who, None] * (
            0.5 * place[who, camera] + 0.8 * (shared_query + normal(len(who), DIM)) / math.sqrt(2)
        )
        gallery = identity[of_gallery] + 0.7 * hard[of_gallery, None] * (
            shared_gallery + normal(len(of_gallery), DIM)
        ) / math.sqrt(2)
        queries, gallery = (side / side.norm(dim=1, keepdim=True) for side in (queries, gallery))
        similarity = (queries @ gallery.T).view(len(who), people, SHOTS)
        own = similarity[torch.arange(len(who)), who].sort(1, descending=True).values
        ahead = (similarity[:, None] >= own[:, :, None, None]).sum(-1).double()
        ahead[torch.arange(len(who)), :, who] = 0
        worlds.append(World(ahead, who, people))
    return worlds


def scores_of(wrong: Tensor) -> Tensor:
    """R1, AP and INP (Q, 3, …) from the wrong images before each true match (Q, SHOTS, …)."""
    number = torch.arange(1, SHOTS + 1).double().view(1, SHOTS, *[1] * (wrong.ndim - 2))
    return torch.stack(
        [(wrong[:, 0] == 0).double(), (number / (wrong + number)).mean(1), SHOTS / (SHOTS + wrong[:, -1])], 1
    )


def resampled(world: World) -> tuple[Tensor, Tensor]:
    sums, sizes = world.sums(), world.sizes
    (weights,) = draws(world.people, REPLICATES, 0)
    return sums.sum(0) / sizes.sum(), (weights @ sums) / (weights @ sizes)[:, None]


def percentile(world: World) -> Interval:
    return Interval(*resampled(world)[1].quantile(torch.tensor([0.025, 0.975]).double(), dim=0))


def basic(world: World) -> Interval:
    share, shares = resampled(world)
    low, high = shares.quantile(torch.tensor([0.025, 0.975]).double(), dim=0)
    return Interval(2 * share - high, 2 * share - low)


def bca(world: World) -> Interval:
    share, shares = resampled(world)
    sums, sizes = world.sums(), world.sizes
    without = (sums.sum(0) - sums) / (sizes.sum() - sizes)[:, None]
    apart = without.mean(0) - without
    skew = apart.pow(3).sum(0) / (6 * apart.square().sum(0).clamp(min=1e-300).pow(1.5))
    below = ((shares < share).double().mean(0) + (shares == share).double().mean(0) / 2).clamp(0.001, 0.999)
    bias = torch.from_numpy(ndtri(below.numpy()))
    ends = []
    for tail in (-1.959964, 1.959964):
        level = torch.from_numpy(ndtr((bias + (bias + tail) / (1 - skew * (bias + tail))).numpy())).nan_to_num(0.5)
        ends.append(torch.stack([column.quantile(q) for column, q in zip(shares.T, level, strict=True)]))
    return Interval(*ends)


def shipped(world: World) -> Interval:
    return ratio_interval(world.sums(), world.sizes, replicates=REPLICATES)


def with_gallery(world: World) -> Interval:
    """People drawn as queries and as gallery: one drawn twice stands there twice."""
    (weights,) = draws(world.people, OF_THE_GALLERY, 0)
    wrong = (world.ahead.view(-1, world.people) @ weights.T).view(len(world.who), SHOTS, -1)
    of_queries = weights[:, world.who]
    shares = torch.einsum("qkr,rq->rk", scores_of(wrong), of_queries) / of_queries.sum(1, keepdim=True)
    return Interval(*shares.quantile(torch.tensor([0.025, 0.975]).double(), dim=0))


METHODS: dict[str, Callable[[World], Interval]] = {
    "percentile": percentile,
    "basic": basic,
    "BCa": bca,
    "percentile, gallery too": with_gallery,
    "studentised log-odds (used)": shipped,
}
AT_MOST = {"percentile, gallery too": 50}  # people, beyond which it takes too long


def truth(people: int, noise: float) -> Tensor:
    generator = torch.Generator().manual_seed(1_000_000 + people)
    worlds = 3000 if people < 90 else 1500
    return torch.stack(
        [scores_of(make(people, (noise,), generator)[0].ahead.sum(2)).mean(0) for _ in range(worlds)]
    ).mean(0)


def coverage(people: int, noise: float, worlds: int) -> Iterator[str]:
    true, generator = truth(people, noise), torch.Generator().manual_seed(people)
    methods = {name: method for name, method in METHODS.items() if people <= AT_MOST.get(name, people)}
    held = {name: torch.zeros(3) for name in methods}
    width = {name: torch.zeros(3) for name in methods}
    for _ in range(worlds):
        (world,) = make(people, (noise,), generator)
        for name, method in methods.items():
            low, high = method(world)
            held[name] += (low <= true) & (true <= high)
            width[name] += high - low
    at = " / ".join(f"{100 * value:.0f}" for value in true.tolist())
    for name in methods:
        cells = [
            f"{100 * h / worlds:.1f} ({100 * w / worlds:.0f})" for h, w in zip(held[name], width[name], strict=True)
        ]
        yield f"| {people} | {at} | {name} | " + " | ".join(cells) + " |"


def of_differences(people: int, noises: tuple[float, float], worlds: int) -> str:
    """Of the paired difference of two methods: what intervals hold, and how often the test says p <= 0.05."""
    true, generator = truth(people, noises[1]) - truth(people, noises[0]), torch.Generator().manual_seed(people)
    held, told = torch.zeros(3), torch.zeros(3)
    for _ in range(worlds):
        first, second = make(people, noises, generator)
        sums = second.sums() - first.sums()
        low, high = difference_interval(sums, first.sizes, replicates=REPLICATES)
        held += (low <= true) & (true <= high)
        told += sign_flip(sums, flips=999) <= 0.05
    apart = " / ".join(f"{100 * value:+.1f}" for value in true.tolist())
    cells = [f"{100 * h / worlds:.1f}" for h in held.tolist()] + [f"{100 * t / worlds:.1f}" for t in told.tolist()]
    return f"| {people} | {apart} | " + " | ".join(cells) + " |"


def of_repeats(runs: int, worlds: int) -> str:
    """Of the mean R1 over runs, and of the difference of two methods' runs: 50 people with 6 queries, whose chances are
    of the person, of the run and of both (standard deviations 1, 0.3 and 0.5 in log-odds)."""
    people, each, generator = 50, 6, torch.Generator().manual_seed(runs)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def repeats(of_people: Tensor) -> list[Answers]:
        chances = (of_people + 0.3 * normal(runs, 1) + 0.5 * normal(runs, people)).sigmoid().repeat_interleave(each, 1)
        rows = torch.arange(people * each)
        found = torch.rand(chances.shape, generator=generator) < chances
        values = [torch.where(one, 1, 9)[None] for one in found]
        return [
            Answers(Outcomes(rows, rows // each, first, 1 / first.double(), 1 / first.double()), paths)
            for first in values
        ]

    paths, levels = [str(row) for row in range(people * each)], (0.5, 0.8)
    spread = math.sqrt(1 + 0.3**2 + 0.5**2)
    true = [100 * (level + spread * normal(2_000_000)).sigmoid().mean().item() for level in levels]
    held, told = torch.zeros(3), 0
    for _ in range(worlds):
        of_people = normal(people)
        first, second, like = (repeats(of_people + level) for level in (*levels, levels[0]))
        low, high = (100 * end[0].item() for end in interval_over_runs(first))
        apart, none = compare(first, second), compare(first, like)
        held += torch.tensor(
            [
                low <= true[0] <= high,
                apart.low[0].item() <= true[1] - true[0] <= apart.high[0].item(),
                none.low[0].item() <= 0 <= none.high[0].item(),
            ]
        )
        told += int(none.p[0] <= 0.05)
    cells = [f"{100 * h / worlds:.1f}" for h in held.tolist()] + [f"{100 * told / worlds:.1f}"]
    return f"| {runs} | " + " | ".join(cells) + " |"


def main(worlds: int, tables: Sequence[str]) -> None:
    started = time.monotonic()
    if "scores" in tables:
        print(
            "| people | R1 / mAP / mINP | method | " + " | ".join(SCORES) + " |\n|---|---|---|---|---|---|", flush=True
        )
        for people, noise in SINGLE:
            for line in coverage(people, noise, worlds):
                print(line, flush=True)
    if "differences" in tables:
        header = [f"{score} held" for score in SCORES] + [f"{score} told apart" for score in SCORES]
        print("\n| people | true difference | " + " | ".join(header) + " |\n|---|---|" + "---|" * 6, flush=True)
        for people, noises in PAIRS:
            print(of_differences(people, noises, worlds), flush=True)
    if "repeats" in tables:
        print("\n| runs | mean held | difference held | no difference held | none told apart |\n|---|---|---|---|---|")
        for runs in (2, 3, 5, 10):
            print(of_repeats(runs, worlds), flush=True)
    print(f"\n{worlds} worlds a line, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:] or ["scores", "differences", "repeats"])
