"""What networks find in made worlds of people: where tests and intervals are tried. Both were tuned here, too.

A query is found where its margin is above 0. A margin is the recipe's strength, less what its person, look, tracklet,
image and gallery take from it: difficulty has a heavy tail, looks come in clusters whose people are confused together,
some people have a sibling, queries of a tracklet err together, and each of ten galleries shows another image of each
person. Each network adds errors of its own on looks, people, tracklets and images, and a strength of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TRACKLETS, IMAGES, GALLERIES = 4, 5, 10  # at most, at most, exactly
OF_RUN, OF_LOOK = (
    0.03,
    0.08,
)  # standard deviations of networks' strengths, and of those on a look; of the margins about 2
AT_ONCE = 4_000_000  # margins


class Found(NamedTuple):
    """W worlds of I people."""

    values: Tensor  # (W, M, R, I, 2): sums of R1 and AP over each person's queries, of R runs of each of M recipes
    sizes: Tensor  # (W, I): queries of each person


def worlds(count: int, people: int, strengths: list[float], runs: int, of_run: float, seed: int) -> Found:
    draw = torch.Generator().manual_seed(seed)
    block = max(1, AT_ONCE // (people * TRACKLETS * IMAGES * GALLERIES))
    parts = [
        _block(min(block, count - start), people, strengths, runs, of_run, draw) for start in range(0, count, block)
    ]
    return Found(*map(torch.cat, zip(*parts, strict=True)))


def _block(
    count: int, people: int, strengths: list[float], runs: int, of_run: float, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    looks = max(2, people // 8)
    look = torch.randint(looks, (count, people), generator=draw)
    shape = (count, people, TRACKLETS, IMAGES)

    def of_looks(spread: float) -> Tensor:  # (W, I, 1, 1)
        return spread * normal(count, looks).gather(1, look)[..., None, None]

    here = torch.rand(count, people, TRACKLETS, generator=draw) < 0.5
    here[..., 0] = True  # everyone has a tracklet
    asked = here[..., None] & (torch.rand(*shape, generator=draw) < 0.6)
    asked[..., 0, 0] = True
    difficulty = (1 - torch.rand(count, people, generator=draw)).pow(-1 / 2.5).clamp(max=15)
    person = -difficulty - 1.0 * (torch.rand(count, people, generator=draw) < 0.15)
    world = person[..., None, None] + of_looks(0.1) + 0.8 * normal(*shape[:3], 1) + 0.6 * normal(*shape)
    gallery = 0.6 * normal(count, people, 1, 1, GALLERIES)
    sums = []
    for strength in strengths:
        of_recipe = 0.15 * normal(count, people, 1, 1)
        for _ in range(runs):
            own = (
                of_looks(OF_LOOK if of_run else 0.0) + 0.35 * normal(count, people, 1, 1) + 0.3 * normal(*shape[:3], 1)
            )
            run = strength + of_run * normal(count, 1, 1, 1) + of_recipe + own + 0.4 * normal(*shape)
            margin = (world + run)[..., None] + gallery  # (W, I, TRACKLETS, IMAGES, GALLERIES)
            wrong = (-2 * margin).clamp(0, 12).exp().floor()  # 1 from a margin of 0 on
            wrong = wrong.where(margin < 0, 0)
            found = torch.stack([(margin >= 0).float().mean(-1), (1 / (1 + wrong)).mean(-1)], -1)
            sums.append((found * asked[..., None]).sum((2, 3)).double())
    values = torch.stack(sums, 1).view(count, len(strengths), runs, people, 2)
    return values, asked.sum((2, 3)).double()


def strength_for(share: float) -> float:
    """With which a recipe's networks find this share of queries at rank 1."""
    low, high = -5.0, 25.0
    for _ in range(30):
        middle = (low + high) / 2
        found = worlds(40, 100, [middle], 1, 0.0, 10**6)
        low, high = (low, middle) if found.values[..., 0].sum() / found.sizes.sum() > share else (middle, high)
    return (low + high) / 2
