"""Made worlds of people, where tests and intervals are tried. Their numbers were written down before any was tried.

Embeddings are drawn and ranked by cosine, so that R1 and AP come from rank lists, as they do of a network:

- Looks come in clusters, one for ten people. A look and a person's own part have the same variance.
- One person in five has a sibling, whose own part has a correlation of 0.8 with that person's.
- Queries come in 1 to 4 tracklets of 1 to 5 images. Ten galleries show an image of each person.
- A query errs by its person (night against day), its tracklet and its image, a gallery image by itself, all by the same
  variance. Difficulty multiplies a person's errors: 1 / sqrt(chi²/3) of 3 degrees of freedom, whose tail is heavy.
- Half of an error's variance is every network's, a quarter is its recipe's, a quarter is its run's own.
- A strength multiplies looks and own parts. That of a run differs from its recipe's by 2 %.
- `err_on_looks`: queries err by their look, too. Then people of a look are no independent units.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

WIDTH, GALLERIES, TRACKLETS, IMAGES = 32, 10, 4, 5
OF_ALL, OF_RECIPE, OF_RUN = 0.5, 0.25, 0.25  # variance of an error
OF_STRENGTH = 0.02  # standard deviation over runs


class Errors(NamedTuple):
    person: Tensor  # (I, D)
    look: Tensor  # (L, D)
    tracklet: Tensor  # (I, TRACKLETS, D)
    image: Tensor  # (Q, D)
    gallery: Tensor  # (I, GALLERIES, D)


class Crowd:
    """I people of one world: how they look, and what of them is asked."""

    def __init__(self, people: int, draw: torch.Generator, *, err_on_looks: bool = False) -> None:
        self.people, self.draw, self.err_on_looks = people, draw, err_on_looks
        looks = max(2, people // 10)
        self.look = torch.randint(looks, (people,), generator=draw)
        own = self.normal(people, WIDTH)
        pairs = people // 10
        own[pairs : 2 * pairs] = 0.8 * own[:pairs] + 0.6 * own[pairs : 2 * pairs]
        self.look[pairs : 2 * pairs] = self.look[:pairs]
        self.appearance = own + self.normal(looks, WIDTH)[self.look]
        self.difficulty = (3 / self.normal(people, 3).square().sum(1)).sqrt()
        images = torch.randint(1, IMAGES + 1, (people, TRACKLETS), generator=draw)
        tracklets = torch.randint(1, TRACKLETS + 1, (people, 1), generator=draw)
        images = images.where(torch.arange(TRACKLETS) < tracklets, 0).flatten()
        place = torch.arange(people * TRACKLETS).repeat_interleave(images)
        self.who, self.tracklet = place // TRACKLETS, place % TRACKLETS
        self.sizes = self.who.bincount(minlength=people).double()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.draw)

    def errors(self) -> Errors:
        looks = int(self.look.max()) + 1
        shapes = [(self.people,), (looks,), (self.people, TRACKLETS), (len(self.who),), (self.people, GALLERIES)]
        return Errors(*(self.normal(*shape, WIDTH) for shape in shapes))

    def found(self, strength: float, errors: Errors) -> Tensor:
        """(I, 2): sums of R1 and AP over each person's queries, means over galleries."""
        of_query = errors.person[self.who] + errors.tracklet[self.who, self.tracklet] + errors.image
        query = strength * self.appearance[self.who] + self.difficulty[self.who, None] * of_query
        if self.err_on_looks:
            query += errors.look[self.look[self.who]]
        gallery = strength * self.appearance[:, None] + self.difficulty[:, None, None] * errors.gallery
        gallery = torch.nn.functional.normalize(gallery, dim=-1)  # a query's length ranks nothing
        similarity = (query @ gallery.flatten(0, 1).T).view(len(query), self.people, GALLERIES)
        true = similarity[torch.arange(len(query)), self.who]  # (Q, GALLERIES)
        rank = 1 + (similarity > true[:, None]).sum(1)
        scores = torch.stack([(rank == 1).double().mean(1), (1 / rank.double()).mean(1)], 1)
        return torch.zeros(self.people, 2).double().index_add_(0, self.who, scores)


def mixed(*weighted: tuple[float, Errors]) -> Errors:
    """The sum of independent errors, each with its share of the variance."""
    shares, errors = zip(*weighted, strict=True)
    levels = zip(*errors, strict=True)
    return Errors(*(sum(sqrt(share) * part for share, part in zip(shares, level, strict=True)) for level in levels))


def world(
    people: int, strengths: Sequence[float], runs: int, seed: int, *, err_on_looks: bool = False
) -> tuple[Tensor, Tensor]:
    """What networks of M recipes find, (M, 1 + R, I, 2) as `Crowd.found`, and each person's queries (I,).

    The first network of a recipe has the recipe's own strength, the other R are its runs.
    """
    draw = torch.Generator().manual_seed(seed)
    crowd = Crowd(people, draw, err_on_looks=err_on_looks)
    of_all, found = crowd.errors(), []
    for strength in strengths:
        of_recipe = crowd.errors()
        for run in range(1 + runs):
            of_run = 1 + OF_STRENGTH * float(crowd.normal(1)) * (run > 0)
            errors = mixed((OF_ALL, of_all), (OF_RECIPE, of_recipe), (OF_RUN, crowd.errors()))
            found.append(crowd.found(strength * of_run, errors))
    return torch.stack(found).view(len(strengths), 1 + runs, people, 2), crowd.sizes


@cache
def strength_for(share: float, people: int, *, err_on_looks: bool = False) -> float:
    """With which networks find about this share of queries at rank 1, in worlds of their own."""
    draws = [torch.Generator().manual_seed(10**6 + number) for number in range(max(1, 3000 // people))]
    crowds = [Crowd(people, draw, err_on_looks=err_on_looks) for draw in draws]
    tried = [(crowd, crowd.errors()) for crowd in crowds]
    queries = sum(float(crowd.sizes.sum()) for crowd in crowds)
    low, high = 0.2, 8.0
    for _ in range(12):
        middle = sqrt(low * high)
        found = sum(float(crowd.found(middle, errors)[:, 0].sum()) for crowd, errors in tried)
        low, high = (low, middle) if found / queries > share else (middle, high)
    return sqrt(low * high)
