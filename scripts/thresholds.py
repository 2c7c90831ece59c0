"""Does a threshold keep its promise in a larger gallery? Worlds of made people, whose false alarms are counted exactly.

`python scripts/thresholds.py [rate [worlds [calibrations [kinds]]]]` prints the table of
docs/background/simulations.md. A few people of a world of 1 500 calibrate. The rate that their threshold really has in
galleries of 30 to 1 000 people of that world is an average over all its queries and all its galleries, without drawing
any.

    plain     everybody is drawn alike; a person's difficulty spreads by half an e-fold
    types     two dozen types of looks, of unlike sizes; people of a type are alike
    families  looks come in eight groups of eight
    hard      types, and difficulties of heavy tails: some people's pictures are nearly noise
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mpanet_pl.evaluation.impostors import SCALES, Law, chance_of_none, laws_of

PEOPLE, QUERIES, WIDTH = 1500, 2, 24  # of a world: people, queries of each, numbers of an embedding
FEW = (36, 60, 100)  # people who calibrate
ENROLLED = (30, 100, 300, 1000)
KEPT = 500  # scores of a query, the highest: a person behind them is never the best of 30
KINDS = ("plain", "types", "families", "hard")


class World(NamedTuple):
    scores: np.ndarray  # (Q, I): each query's cosine to each person's one gallery image; -1 to its own person's
    who: np.ndarray  # (Q,)

    def some(self, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores of these people's queries against one another, and the column of each query's own person."""
        rows = np.isin(self.who, people)
        return self.scores[rows][:, people], np.searchsorted(people, self.who[rows])


def make(kind: str, draw: np.random.Generator, people: int = PEOPLE) -> World:
    def normal(*shape: int) -> np.ndarray:
        return draw.normal(size=shape)

    looks, difficulty = normal(people, WIDTH), np.exp(normal(people) / 2)
    if kind in ("types", "hard"):
        sizes = np.arange(1, 25) ** -0.7
        looks = 0.7 * looks + 0.7 * normal(24, WIDTH)[draw.choice(24, people, p=sizes / sizes.sum())]
    if kind == "families":
        group = draw.integers(64, size=people)
        looks = 0.7 * looks + 0.5 * normal(64, WIDTH)[group] + 0.5 * normal(8, WIDTH)[group // 8]
    if kind == "hard":
        difficulty = difficulty * np.sqrt(3 / draw.chisquare(3, size=people))
    who = np.arange(people).repeat(QUERIES)
    cameras = 0.3 * normal(2, WIDTH)[draw.integers(2, size=len(who))]
    queries = looks[who] + 0.7 * difficulty[who, None] * normal(len(who), WIDTH) + cameras
    gallery = looks + 0.5 * difficulty[:, None] * normal(people, WIDTH)
    queries, gallery = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery))
    scores = queries @ gallery.T
    scores[np.arange(len(who)), who] = -1
    return World(scores, who)


class Truth:
    """False alarms of a whole world by threshold, for one size of gallery."""

    def __init__(self, falling: np.ndarray, order: np.ndarray, people: int, enrolled: int) -> None:
        """`falling` (Q, KEPT) scores of each query; `order` sorts all of them, rising."""
        first = enrolled / people * chance_of_none(np.arange(falling.shape[1]), people - 1, enrolled - 1)
        weights = np.broadcast_to(first / len(falling), falling.shape).ravel()[order]
        self.scores = falling.ravel()[order]
        self.above = np.append(np.cumsum(weights[::-1])[::-1], 0.0)

    def at(self, threshold: float) -> float:
        return float(self.above[np.searchsorted(self.scores, threshold)])


def truths(world: World) -> dict[int, Truth]:
    kept = min(KEPT, world.scores.shape[1] - 1)
    falling = -np.sort(np.partition(-world.scores, kept - 1, axis=1)[:, :kept], axis=1)
    order = np.argsort(falling.ravel())
    return {enrolled: Truth(falling, order, world.scores.shape[1] - 1, enrolled) for enrolled in ENROLLED}


def unmoved(law: Law) -> float:
    """The threshold of the calibrating people's own gallery, whatever the gallery."""
    return float(SCALES["cosine"].back(law.at(law.people)))


def tried(kind: str, few: int, rate: float, worlds: int, calibrations: int) -> np.ndarray:
    """(R, sizes, 4): real rate over promise, whether it is at most what was said, that over promise; unmoved's."""
    found = []
    for number in range(worlds):
        draw = np.random.default_rng([number, KINDS.index(kind)])
        world = make(kind, draw)
        of_size = truths(world)
        for _ in range(calibrations):
            scores, own = world.some(np.sort(draw.choice(PEOPLE, few, replace=False)))
            (law,) = laws_of(SCALES["cosine"].of(scores), own, [rate])
            rows = []
            for enrolled, truth in of_size.items():
                score = law.at(enrolled)
                _, most = law.rates(score, enrolled)
                threshold = float(SCALES["cosine"].back(score))
                real, naive = truth.at(threshold), truth.at(unmoved(law))
                rows.append((real / rate, real <= most, most / rate, naive / rate))
            found.append(rows)
    return np.array(found, dtype=float)


def main(rate: float, worlds: int, calibrations: int, kinds: Sequence[str] = KINDS) -> None:
    started = time.monotonic()
    print(
        "| people | calibrated on | in a gallery of | mean real rate / promise | at most what was said | said, at most "
        "(median) | unmoved threshold |\n|---|---|---|---|---|---|---|"
    )
    for kind in kinds:
        for few in FEW:
            found = tried(kind, few, rate, worlds, calibrations)
            for size, enrolled in enumerate(ENROLLED):
                ratio, held, most, naive = found[:, size].T
                cells = f"{ratio.mean():.2f} | {100 * held.mean():.0f} % | {np.median(most):.1f} × | {naive.mean():.1f}"
                print(f"| {kind} | {few} | {enrolled} | {cells} |", flush=True)
    drawn = f"{worlds} worlds, {calibrations} calibrations in each"
    print(f"\nA promise of {100 * rate:g} %; {drawn}; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    words = sys.argv[1:]
    main(
        float(words[0]) if words else 0.05,
        int(words[1]) if words[1:] else 8,
        int(words[2]) if words[2:] else 8,
        words[3:] or KINDS,
    )
