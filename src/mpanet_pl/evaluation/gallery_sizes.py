"""What false alarms cost: missed people against false alarms, for galleries of several sizes (a DET curve for each).

Both rates are those of a random gallery of n of the people there are. How many others reach a score is enough to know
them exactly: nothing is drawn.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mpanet_pl.evaluation.impostors import chance_of_none

SIZES = (10, 30, 100, 300, 1000, 3000)
CURVE = 40  # of a curve
FEWEST = 1e-3  # false alarms, where a curve begins


class Trade(NamedTuple):
    """One gallery size's curve, as the threshold falls."""

    false_alarms: list[float]  # FPIR
    missed: list[float]  # FNIR: own person below the threshold, or not first


def trades(scores: np.ndarray, own: np.ndarray, sizes: Sequence[int] = SIZES) -> dict[int, Trade]:
    """From queries' scores of people (Q, I), whose own column is `own` (Q,): enrolled people -> its curve."""
    people = scores.shape[1]
    if people < 3 or not len(scores):
        return {}
    rows = np.arange(len(own))
    mine = scores[rows, own]
    others = scores.copy()
    others[rows, own] = -np.inf
    others = np.sort(others, axis=1)[:, 1:]  # (Q, M)
    ahead = (others >= mine[:, None]).sum(1)  # of equals the wrong one ranks first
    thresholds = np.unique(np.quantile(others[:, -1], 1 - np.geomspace(FEWEST, 1, CURVE)))[::-1]
    reaching = np.stack([(others >= threshold).sum(1) for threshold in thresholds])  # (T, Q)
    reached = mine >= thresholds[:, None]
    found = {}
    for size in [*(size for size in sizes if size < people - 1), people - 1]:
        first = chance_of_none(ahead, people - 1, size - 1)  # (Q,) that the own person ranks first
        alarms = 1 - chance_of_none(reaching, people - 1, size).mean(1)
        found[size] = Trade(alarms.tolist(), (1 - (first * reached).mean(1)).tolist())
    return found
