"""Worlds of made people, on which tests and intervals are tried: unlike the models that they were derived in.

Looks come in clusters, some people have a sibling, difficulty has a heavy tail, queries come in tracklets that err
together, and ten galleries of one image per person and camera are drawn. Networks of one recipe share much of their
errors; each has errors of its own on each person, on each image, and a strength of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

WIDTH, CANDIDATES, TRIALS = 24, 4, 10
SPREAD = 0.03  # standard deviation of the noise's logarithm among networks of one recipe
OF_RUN, OF_RECIPE = 0.35, 0.2  # how far a network, and a recipe, shifts each person, beside the shared noise


class Recipe(NamedTuple):
    noise: float
    spread: float = SPREAD


class Answers(NamedTuple):
    values: Tensor  # (R, I, 2): each run's sums of R1 and AP over each person's queries, means over galleries
    sizes: Tensor  # (I,): queries of each person


def world(people: int, recipes: tuple[Recipe, ...], runs: int, seed: int) -> list[Answers]:
    """What `runs` networks of each recipe find in one world."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    look = torch.randint(max(2, people // 12), (people,), generator=draw)
    person = 0.8 * normal(max(2, people // 12), WIDTH)[look] + 0.6 * normal(people, WIDTH)
    sibling = (torch.rand(people, generator=draw) < 0.15).nonzero().flatten()
    sibling = sibling[sibling > 0]
    person[sibling] = person[sibling - 1] + 0.35 * normal(len(sibling), WIDTH)
    difficulty = (1 - torch.rand(people, generator=draw)).pow(-1 / 2.5).clamp(max=12)[:, None]
    tracklets = 1 + (torch.rand(people, 5, generator=draw) < 0.4).sum(1)
    of_tracklet = torch.arange(people).repeat_interleave(tracklets)
    images = torch.randint(1, 7, (len(of_tracklet),), generator=draw)
    tracklet = torch.arange(len(of_tracklet)).repeat_interleave(images)
    who = of_tracklet[tracklet]  # (Q,)
    seen = 0.6 * normal(len(of_tracklet), WIDTH)[tracklet] + 0.5 * normal(len(who), WIDTH)
    shown = normal(people, 2, CANDIDATES, WIDTH)
    chosen = torch.randint(CANDIDATES, (TRIALS, people, 2), generator=draw)
    answers = []
    for recipe in recipes:
        of_recipe, found = OF_RECIPE * normal(people, WIDTH), []
        for _ in range(runs):
            noise = recipe.noise * float((recipe.spread * normal(1)).exp()) * difficulty  # (I, 1)
            shift = of_recipe + OF_RUN * normal(people, WIDTH)
            queries = person[who] + noise[who] * (seen + shift[who] + 0.4 * normal(len(who), WIDTH))
            gallery = person[:, None, None] + 0.7 * noise[:, None, None] * (
                shown + 0.4 * normal(people, 2, CANDIDATES, WIDTH)
            )
            found.append(_found(queries, gallery, who, chosen))
        answers.append(Answers(torch.stack(found), torch.bincount(who, minlength=people).double()))
    return answers


def _found(queries: Tensor, gallery: Tensor, who: Tensor, chosen: Tensor) -> Tensor:
    """(I, 2): sums of R1 and AP over each person's queries."""
    people = len(gallery)
    queries = queries / queries.norm(dim=1, keepdim=True)
    gallery = (gallery / gallery.norm(dim=-1, keepdim=True)).flatten(0, 2)  # (2 · I · CANDIDATES, D)
    similarity = queries @ gallery.T
    column = torch.arange(2 * people).view(people, 2) * CANDIDATES
    sums, rows = torch.zeros(people, 2, dtype=torch.float64), torch.arange(len(who))
    for images in chosen:
        of_trial = similarity[:, (column + images).flatten()]  # (Q, 2 · I)
        own = of_trial.view(len(who), people, 2)[rows, who].sort(1, descending=True).values
        ahead = torch.stack([(of_trial >= own[:, [k]]).sum(1) - k for k in (0, 1)], 1) - 1  # wrong ones before each
        precision = (1 / (1 + ahead[:, 0]) + 2 / (2 + ahead[:, 1])) / 2
        sums.index_add_(0, who, torch.stack([(ahead[:, 0] == 0).double(), precision.double()], 1))
    return sums / len(chosen)


def noise_for(people: int, share: float, worlds: int = 40) -> float:
    """At which networks find this share of queries at rank 1, in worlds that nothing else is tried on."""
    low, high = 0.01, 8.0
    for _ in range(12):
        noise = (low * high) ** 0.5
        found = asked = 0.0
        for seed in range(worlds):
            (answers,) = world(people, (Recipe(noise),), 1, 10**6 + seed)
            found, asked = found + float(answers.values[0, :, 0].sum()), asked + float(answers.sizes.sum())
        low, high = (noise, high) if found / asked > share else (low, noise)
    return (low * high) ** 0.5
