"""Do intervals hold, and do tests tell as often as they say? In made worlds, on which both were tuned, too.

`python scripts/coverage.py [worlds [intervals] [tests] [power]]` prints the tables of docs/background/simulations.md.
The worlds are `scripts/made_worlds.py`; a table of size has two recipes that are equal, one of power a recipe that is
better.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import torch
from made_worlds import OF_RUN, Found, strength_for, worlds
from scipy.special import stdtr
from torch import Tensor

from mpanet_pl.evaluation.differences import difference
from mpanet_pl.evaluation.intervals import ratio_interval
from mpanet_pl.evaluation.outcomes import People

SHARES = (0.15, 0.70, 0.97)
SCORES = 2  # R1 and AP


def intervals(people: int, share: float, count: int) -> str:
    strength = strength_for(share)
    many = worlds(1500, 100, [strength], 1, 0.0, seed=777)
    truth = many.values.sum((0, 1, 2, 3)) / many.sizes.sum()
    found = worlds(count, people, [strength], 1, 0.0, seed=people)
    held, width = torch.zeros(SCORES), torch.zeros(SCORES)
    for values, sizes in zip(found.values[:, 0, 0], found.sizes, strict=True):
        low, high = ratio_interval(values, sizes)
        held += (low <= truth) & (truth <= high)
        width += high - low
    at = " / ".join(f"{100 * value:.0f}" for value in truth.tolist())
    cells = [f"{100 * h / count:.1f} ({100 * w / count:.0f})" for h, w in zip(held, width, strict=True)]
    return f"| {people} | {at} | " + " | ".join(cells) + " |"


def told(found: Found, runs: int) -> tuple[Tensor, Tensor]:
    """Shares of worlds (2,) in which the second recipe is told from the first, by this package and as in 0.2."""
    now, before = torch.zeros(SCORES), torch.zeros(SCORES)
    for values, sizes in zip(found.values, found.sizes, strict=True):
        share = sizes / sizes.sum()
        sides = [[People(torch.arange(len(sizes)), one / sizes.sum(), share) for one in side[:runs]] for side in values]
        now += difference(sides).p <= 0.05
        before += as_in_0_2(sides) <= 0.05
    return now / len(found.sizes), before / len(found.sizes)


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
    started = time.monotonic()
    if "intervals" in tables:
        print("| people | R1 / mAP | R1 held (width) | mAP held (width) |\n|---|---|---|---|")
        for people in (20, 40, 100, 300):
            for share in SHARES:
                print(intervals(people, share, count), flush=True)
    if "tests" in tables:
        print("\n| people | R1 | runs a side | R1 told | mAP told | in 0.2: R1, mAP |\n|---|---|---|---|---|---|")
        for people in (40, 100):
            for share in SHARES:
                strength = strength_for(share)
                for runs in (1, 2, 3, 5):
                    of_run = OF_RUN if runs > 1 else 0.0
                    rates = told(worlds(count, people, [strength] * 2, runs, of_run, seed=people + runs), runs)
                    cells = [f"{100 * rate:.1f}" for rate in torch.cat(rates).tolist()]
                    print(
                        f"| {people} | {100 * share:.0f} | {runs} | {cells[0]} | {cells[1]} | {cells[2]}, {cells[3]} |",
                        flush=True,
                    )
    if "power" in tables:
        print("\n| people | R1 | runs a side | R1 told | in 0.2 |\n|---|---|---|---|---|")
        for better in (0.725, 0.737):
            found = worlds(count, 100, [strength_for(0.70), strength_for(better)], 3, OF_RUN, seed=9)
            rates = told(found, 3)
            print(f"| 100 | 70 → {100 * better:.1f} | 3 | {100 * rates[0][0]:.1f} | {100 * rates[1][0]:.1f} |")
    print(f"\n{count} worlds a line, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2:] or ["intervals", "tests", "power"])
