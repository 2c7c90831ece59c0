"""Do intervals hold, and do tests tell as often as they say? In made worlds whose numbers were written down before.

`python scripts/coverage.py [worlds [intervals] [tests] [power] [looks]]` prints the tables of
docs/background/simulations.md, in worlds of `scripts/made_worlds.py`. A table of size has two recipes that are equal,
one of power a recipe that is better; `looks` repeats some lines where networks err on looks, too. With `KEEP=FOLDER` in
the environment worlds are kept there and read again; with `PEOPLE=300` only lines of so many people are made.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from made_worlds import Crowd, strength_for, world
from scipy.special import stdtr
from torch import Tensor

from mpanet_pl.evaluation.differences import difference
from mpanet_pl.evaluation.intervals import ratio_interval
from mpanet_pl.evaluation.outcomes import People

SHARES, RUNS = (0.15, 0.70, 0.97), (1, 2, 3, 5)
Found = list[tuple[Tensor, Tensor]]  # of each world: what was found, and how many queries each person has


def intervals(count: int, people: int, share: float, *, err_on_looks: bool = False) -> str:
    def one(seed: int) -> tuple[Tensor, Tensor]:
        crowd = Crowd(people, torch.Generator().manual_seed(seed), err_on_looks=err_on_looks)
        return crowd.found(strength, crowd.errors()), crowd.sizes

    strength = strength_for(share, people, err_on_looks=err_on_looks)
    found = [one(seed) for seed in range(count)]
    truth = sum(sums.sum(0) for sums, _ in found) / sum(sizes.sum() for _, sizes in found)
    ends = torch.stack([torch.stack(ratio_interval(*one)) for one in found])  # (W, 2, 2)
    held = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).double().mean(0)
    width = (ends[:, 1] - ends[:, 0]).mean(0)
    at = " / ".join(f"{100 * value:.0f}" for value in truth.tolist())
    cells = [f"{100 * h:.1f} ({100 * w:.0f})" for h, w in zip(held, width, strict=True)]
    return f"| {people} | {at} | " + " | ".join(cells) + " |"


def made(count: int, people: int, shares: Sequence[float], runs: int, *, err_on_looks: bool = False) -> Found:
    strengths = [strength_for(share, people, err_on_looks=err_on_looks) for share in shares]
    name = "_".join(map(str, [count, people, *shares, runs, err_on_looks]))
    kept = Path(os.environ["KEEP"], f"{name}.pt") if "KEEP" in os.environ else None
    if kept and kept.exists():
        return list(torch.load(kept))
    found = [world(people, strengths, runs, seed, err_on_looks=err_on_looks) for seed in range(count)]
    if kept:
        torch.save(found, kept)
    return found


def told(found: Found, runs: int) -> Tensor:
    """Shares of worlds (2, 2) in which the second recipe is told from the first: by this package and as in 0.2."""
    asked = []
    for values, sizes in found:
        whole = sizes.sum()
        for chosen in sets_of_runs(values.shape[1] - 1, runs):
            sides = [
                [People(torch.arange(len(sizes)), one / whole, sizes / whole) for one in side[chosen]]
                for side in values
            ]
            asked.append(torch.stack([difference(sides).p, as_in_0_2(sides)]) <= 0.05)
    return torch.stack(asked).double().mean(0)


def sets_of_runs(there: int, runs: int) -> list[slice]:
    """As many of `runs` runs as do not overlap. Of one run alone is asked whether networks differ: the recipe's own."""
    if runs == 1:
        return [slice(0, 1)]
    return [slice(first, first + runs) for first in range(1, 2 + there - runs, runs)]


def cells(rates: Tensor) -> str:
    (r1, ap), before = (100 * rates).tolist()
    return f"{r1:.1f} | {ap:.1f} | {before[0]:.1f}, {before[1]:.1f} |"


def as_in_0_2(sides: Sequence[Sequence[People]]) -> Tensor:
    """p (2,): the larger of flips of people's signs and Student's with people and runs added up."""
    ours, theirs = (torch.stack([run.sums for run in side]) for side in sides)
    sums, sizes, people = theirs.mean(0) - ours.mean(0), sides[0][0].sizes, len(sides[0][0].sizes)
    signs = torch.randint(2, (999, people), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    total = sums.sum(0)
    flips = (1 + ((signs @ sums).abs() >= total.abs() - 1e-12).sum(0)).double() / 1000
    if len(ours) == 1:
        return flips
    among = (sums - total * sizes[:, None]).square().sum(0) * people / (people - 1)
    parts = [side.sum(1).var(0) / len(side) for side in (ours, theirs)]
    welch = sum(part.square() / (len(ours) - 1) for part in parts)
    variance = among + parts[0] + parts[1]
    of_runs = (parts[0] + parts[1]).square() / welch.clamp(min=1e-300)
    freedom = variance.square() / (
        among.square() / (people - 1) + (parts[0] + parts[1]).square() / of_runs.clamp(min=1)
    ).clamp(min=1e-300)
    steps = total.abs() / variance.sqrt().clamp(min=1e-12)
    return torch.maximum(flips, torch.from_numpy(2 * stdtr(freedom.clamp(min=1).numpy(), -steps.numpy())))


def main(count: int, tables: Sequence[str]) -> None:
    started, only = time.process_time(), int(os.environ.get("PEOPLE", 0))
    head = "runs a side | R1 told | mAP told | in 0.2: R1, mAP |\n|---|---|---|---|---|---|"
    if "tests" in tables:
        print(f"| people | R1 | {head}")
        for people in filter(lambda people: only in (0, people), (40, 100)):
            for share in SHARES:
                found = made(count, people, [share] * 2, max(RUNS))
                for runs in RUNS:
                    print(f"| {people} | {100 * share:.0f} | {runs} | {cells(told(found, runs))}", flush=True)
    if "power" in tables:
        print(f"\n| people | R1 | {head}")
        for better in (0.725, 0.737):
            rates = told(made(count, 100, [0.70, better], 3), 3)
            print(f"| 100 | 70 → {100 * better:.1f} | 3 | {cells(rates)}", flush=True)
    if "intervals" in tables:
        print("\n| people | R1 / mAP | R1 held (width) | mAP held (width) |\n|---|---|---|---|")
        for people in filter(lambda people: only in (0, people), (20, 40, 100, 300)):
            for share in SHARES:
                print(intervals(count, people, share), flush=True)
    if "looks" in tables:
        print(f"\nNetworks err on looks, too\n\n| people | R1 | {head}")
        found = made(count, 40, [0.70] * 2, 3, err_on_looks=True)
        for runs in (1, 3):
            print(f"| 40 | 70 | {runs} | {cells(told(found, runs))}", flush=True)
        print("\n| people | R1 / mAP | R1 held (width) | mAP held (width) |\n|---|---|---|---|")
        print(intervals(count, 40, 0.70, err_on_looks=True))
        print(intervals(count, 100, 0.70, err_on_looks=True))
    print(f"\n{count} worlds a line, {time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:] or ["tests", "power", "intervals", "looks"])
