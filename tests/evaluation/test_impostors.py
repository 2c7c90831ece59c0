"""The best impostor's law: against galleries written out one by one, laws of its numbers, and made people."""

from itertools import combinations

import numpy as np
import pytest
from scripts_of import script

from mpanet_pl.evaluation.impostors import SCALES, WINDOW, Law, chance_of_none, laws_of

RATES = (0.05, 0.1)
COSINES = SCALES["cosine"]


def searches(people: int = 40, each: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of queries (Q, N) to people, and whose they are."""
    draw = np.random.default_rng(seed)
    who = np.arange(people).repeat(each)
    looks = draw.normal(size=(people, 12))
    queries, gallery = (rows + 0.7 * draw.normal(size=rows.shape) for rows in (looks[who], looks))
    cosines = queries @ gallery.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(gallery, axis=1)
    return cosines, who


def test_nobody_is_chosen_as_often_as_galleries_say() -> None:
    for people, enrolled in ((6, 3), (5, 5), (7, 1)):
        for reaching in range(people + 1):
            galleries = list(combinations(range(people), enrolled))
            share = np.mean([all(person >= reaching for person in gallery) for gallery in galleries])
            assert chance_of_none(np.array(reaching), people, enrolled) == pytest.approx(share)


def test_a_law_is_placed_where_galleries_of_its_people_have_the_rate() -> None:
    """Within the people there are, the law's false alarms are near the promise, whatever the gallery's size."""
    cosines, who = searches(60)
    law = laws_of(COSINES.of(cosines), who, [0.1])[0]
    cosines[np.arange(len(who)), who] = -np.inf
    for enrolled in (6, 15, 30, 59):
        reaching = (cosines >= COSINES.back(law.at(enrolled))).sum(1)
        assert 1 - chance_of_none(reaching, 59, enrolled).mean() == pytest.approx(0.1, abs=0.03)


def test_the_threshold_rises_with_the_gallery_and_falls_with_the_rate() -> None:
    strict, lax = laws_of(COSINES.of(searches()[0]), searches()[1], RATES)
    for law in (strict, lax):
        places = [law.at(enrolled) for enrolled in (5, 39, 100, 1000)]
        assert places == sorted(set(places))
        assert all(law.at(enrolled, cautious=True) > law.at(enrolled) for enrolled in (39, 1000))
        assert law.at(1) == law.at(int(39 / WINDOW))  # smaller was not fitted
    assert all(strict.at(enrolled) > lax.at(enrolled) for enrolled in (5, 39, 100, 1000))


@pytest.mark.parametrize("enrolled", [10, 39, 300])
def test_what_a_score_promises_is_what_was_promised(enrolled: int) -> None:
    for law in laws_of(COSINES.of(searches()[0]), searches()[1], RATES):
        expected, most = law.rates(law.at(enrolled), enrolled)
        assert expected == pytest.approx(law.rate, rel=1e-6)
        assert most > law.rate
        assert law.rates(law.at(enrolled, cautious=True), enrolled)[1] == pytest.approx(law.rate)
        higher, lower = (law.rates(law.at(enrolled) + step, enrolled) for step in (0.1, -0.1))
        assert higher[0] < expected < lower[0]
        assert higher[1] < most < lower[1]


def test_the_farther_a_law_is_carried_the_less_it_is_sure_of() -> None:
    law = laws_of(COSINES.of(searches()[0]), searches()[1], [0.05])[0]
    most = [law.rates(law.at(enrolled), enrolled)[1] for enrolled in (39, 100, 300, 1000)]
    assert most == sorted(set(most))


def test_the_average_over_errors_is_the_promise() -> None:
    """The rate is convex in its errors, so a law that is right in the middle promises too little on average."""
    law = Law(0.05, place=1.0, slope=0.2, scale=0.2, errors=(0.0, 0.0, 0.01), people=35)
    errors = 0.1 / 0.2 * np.log(1000 / 35) * np.sqrt(0.5) * np.random.default_rng(0).normal(size=200_000)
    right = law.place + law.slope * np.log(1000 / 35)
    level = np.log(-np.log1p(-0.05)) - (law.at(1000) - right) / law.scale
    assert np.mean(-np.expm1(-np.exp(level + errors))) == pytest.approx(0.05, rel=0.02)
    assert law.at(1000) > right
    assert law.at(35) == pytest.approx(law.place)


def test_half_of_the_peoples_own_error_raises_the_average() -> None:
    """In a gallery as large as theirs; being the k-th highest of n has already taken the other half off."""
    law = Law(0.05, place=1.0, slope=0.2, scale=0.2, errors=(0.01, 0.0, 0.0), people=35)
    errors = 0.1 / 0.2 * np.sqrt(0.5 / 2) * np.random.default_rng(0).normal(size=200_000)
    level = np.log(-np.log1p(-0.05)) - (law.at(35) - law.place) / law.scale
    assert np.mean(-np.expm1(-np.exp(level + errors))) == pytest.approx(0.05, rel=0.005)


def test_the_rate_moves_the_threshold_between_the_scores_that_there_are() -> None:
    rates = [0.0500, 0.0501, 0.0502, 0.0503]
    places = [law.place for law in laws_of(COSINES.of(searches(12)[0]), searches(12)[1], rates)]
    assert places == sorted(set(places), reverse=True)


def test_errors_are_a_jackknife_over_people() -> None:
    """As queries and as impostors: groups of the people left out in turn, twenty or as many as there are."""
    cosines, who = searches(12)
    scores = COSINES.of(cosines)
    law = laws_of(scores, who, [0.1])[0]
    parts = []
    for left_out in range(12):
        kept = np.arange(12) != left_out
        rows = kept[who]
        column = np.array([np.flatnonzero(np.flatnonzero(kept) == person)[0] for person in who[rows]])
        part = laws_of(scores[rows][:, kept], column, [0.1])[0]
        parts.append((part.place + part.slope * np.log(11 / 10), part.slope))
    one, both, other = law.errors
    expected = 11 / 12 * 12 * np.cov(np.transpose(parts), bias=True)
    assert ((one, both), (both, other)) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_neither_the_order_of_queries_nor_of_other_people_matters() -> None:
    cosines, who = searches(12)  # each left out by himself
    draw = np.random.default_rng(1)
    rows, people = draw.permutation(len(who)), draw.permutation(12)
    moved = laws_of(COSINES.of(cosines[rows][:, people]), people.argsort()[who[rows]], [0.1])[0]
    law = laws_of(COSINES.of(cosines), who, [0.1])[0]
    assert moved[:4] == pytest.approx(law[:4])
    assert moved.errors == pytest.approx(law.errors)


@pytest.mark.parametrize("similarity", SCALES)
def test_scales_lead_back(similarity: str) -> None:
    values = {"cosine": [0.0, 0.3, 0.99], "euclidean": [-30.0, -2.0, -0.1], "product": [-3.0, 0.0, 70.0]}[similarity]
    scale = SCALES[similarity]
    scores = scale.of(np.array(values))
    assert scale.back(scores) == pytest.approx(values)
    assert (np.diff(scores) > 0).all()


def test_equal_scores_are_no_law() -> None:
    """A network that answers the same for everyone has no threshold."""
    assert laws_of(np.full((20, 10), 0.5), np.arange(20) % 10, [0.1]) == ()
    assert laws_of(searches(3)[0], searches(3)[1], [0.1]) == ()


def test_ties_do_not_let_more_through() -> None:
    """Scores of few values: the threshold stands above a value that more than the rate would reach."""
    cosines, who = searches(40)
    scores = np.round(COSINES.of(cosines), 1)
    law = laws_of(scores, who, [0.05])[0]
    scores[np.arange(len(who)), who] = -np.inf
    assert (scores.max(1) >= law.at(39)).mean() <= 0.05 * 1.3


@pytest.mark.slow
def test_made_people_keep_the_promise() -> None:
    """As docs/background/simulations.md, on fewer worlds: on average, and below what was said nine times of ten."""
    thresholds = script("thresholds")
    for kind in ("plain", "hard"):
        found = thresholds.tried(kind, 60, 0.05, worlds=6, calibrations=10)
        ratio, held, most, unmoved = found.transpose(2, 1, 0).mean(2)
        assert ratio == pytest.approx([1, 1, 1, 1], abs=0.4)  # of 60 calibrations, each with an error of its own size
        assert (held >= 0.8).all()
        assert (most[1:] > most[:-1]).all()
        assert unmoved[-1] > 5  # what a threshold that knows no size would do
