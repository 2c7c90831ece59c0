"""Missed people against false alarms by gallery size: against galleries written out one by one."""

from itertools import combinations

import numpy as np
import pytest

from mpanet_pl.evaluation.gallery_sizes import SIZES, trades


def made(people: int = 7, queries: int = 14) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    scores = np.round(draw.normal(size=(queries, people)), 1)  # with ties
    own = np.arange(queries) % people
    scores[np.arange(queries), own] += 1
    return scores, own


def test_both_rates_are_means_over_all_galleries() -> None:
    scores, own = made()
    for size in (3, 5, 6):
        curve = trades(scores, own, sizes=(3, 5))[size]
        others = scores.copy()
        others[np.arange(len(own)), own] = -np.inf
        thresholds = np.unique(np.quantile(others.max(1), 1 - np.geomspace(1e-3, 1, 40)))[::-1]
        assert len(curve.false_alarms) == len(curve.missed) == len(thresholds)
        for place in range(0, len(thresholds), 3):
            alarms, missed = [], []
            for row, whose in zip(scores, own, strict=True):
                rest = [person for person in range(scores.shape[1]) if person != whose]
                alarms += [max(row[list(gallery)]) >= thresholds[place] for gallery in combinations(rest, size)]
                for gallery in combinations(rest, size - 1):
                    first = all(row[person] < row[whose] for person in gallery)
                    missed.append(not (first and row[whose] >= thresholds[place]))
            assert curve.false_alarms[place] == pytest.approx(np.mean(alarms))
            assert curve.missed[place] == pytest.approx(np.mean(missed))


def test_a_larger_gallery_costs_more_at_every_threshold() -> None:
    scores, own = made(60, 120)
    found = trades(scores, own)
    assert list(found) == [10, 30, 59]
    assert [large // small for small, large in zip(SIZES, SIZES[2:], strict=False)] == [10] * (len(SIZES) - 2)
    for small, large in zip(list(found.values()), list(found.values())[1:], strict=False):
        assert (np.array(large.false_alarms) >= small.false_alarms).all()
        assert (np.array(large.missed) >= small.missed).all()
        assert large != small


def test_too_few_people_have_no_curve() -> None:
    assert trades(*made(2, 4)) == {}
    assert list(trades(*made(3, 6))) == [2]
