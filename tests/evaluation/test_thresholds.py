"""Thresholds: never more than was asked for, the kind of search that is asked for, refusals, plain values."""

import json
import math

import pytest
import torch

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.impostors import SCALES, Law
from mpanet_pl.evaluation.thresholds import ALL, SINGLE, Setting, Threshold, least_people, threshold_for


def law(rate: float, place: float = 1.0, people: int = 49) -> Law:
    return Law(rate, place, 0.2, 0.25, (0.02, 0.001, 0.004), people)


def setting(queries: str, gallery: str, shots: str = SINGLE, *, place: float = 1.0, people: int = 50) -> Setting:
    images = 1.0 if shots == SINGLE else 4.0
    laws = tuple(law(rate, place - rate, people - 1) for rate in (0.05, 0.1))
    return Setting(queries, gallery, shots, images, people, 200, laws)


THRESHOLD = Threshold(
    "test people",
    (
        setting("infrared", "visible", place=1.0),
        setting("visible", "visible", place=1.3),
        setting("infrared", "both", place=1.1),
        setting("infrared", "visible", ALL, place=1.2),
    ),
)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 1 / 3, 0.5, 1.0])
@pytest.mark.parametrize("values", [12, 1000])
def test_at_most_the_rate_reaches_a_threshold_and_the_next_one_is_too_many(rate: float, values: int) -> None:
    """Whatever is tied, and however 0.05 times 30 rounds."""
    for count in (1, 7, 20, 30, 100):
        best = torch.randint(values, (count,), generator=torch.Generator().manual_seed(count)).float()
        found = threshold_for(best, rate)
        assert (best >= found).double().mean() <= rate
        lower = best[best < found]
        assert not len(lower) or (best >= lower.amax()).double().mean() > rate
    assert threshold_for(torch.arange(30.0), 0.05) == 29  # one of 30; two would be 6.7 %


def test_so_few_people_promise_so_much() -> None:
    """A new person exceeds the highest of N with a chance of 1 / (N + 1); all N stay below with one of (1 - rate)^N."""
    for rate in (0.01, 0.05, 0.1, 0.25):
        fewest, sure = least_people(rate), least_people(rate, cautious=True)
        assert 1 / (fewest + 1) <= rate * (1 + 1e-9) < 1 / fewest
        assert (1 - rate) ** sure <= 0.1 < (1 - rate) ** (sure - 1)


def test_the_threshold_is_of_the_searches_that_are_asked_for() -> None:
    cosine = SCALES["cosine"]
    found = THRESHOLD.at(300, queries="infrared", gallery="visible")
    expected = THRESHOLD.settings[0].laws[0]
    assert found.value == pytest.approx(cosine.back(expected.at(300)))
    assert (found.rate, found.enrolled, found.people) == (pytest.approx(0.05), 300, 50)
    assert found.most == pytest.approx(expected.rates(expected.at(300), 300)[1])
    assert found.setting == "infrared queries in a gallery of visible images, single-shot"
    mixed = THRESHOLD.at(300, gallery="both").setting
    assert mixed == "infrared queries in a gallery of visible and infrared images, single-shot"
    anybody, visible, both = THRESHOLD.at(300), THRESHOLD.at(300, gallery="visible"), THRESHOLD.at(300, gallery="both")
    assert anybody.value == visible.value == pytest.approx(cosine.back(THRESHOLD.settings[1].laws[0].at(300)))
    assert both.value == pytest.approx(cosine.back(THRESHOLD.settings[2].laws[0].at(300)))
    assert THRESHOLD.at(300, rate=0.1).value < anybody.value
    with pytest.raises(UserError, match=r"Nobody calibrated searches of this kind \(visible both single-shot\)"):
        THRESHOLD.at(300, queries="visible", gallery="both")


def test_more_images_of_a_person_count_as_more_people() -> None:
    cosine, of_all = SCALES["cosine"], THRESHOLD.settings[3].laws[0]
    for images, people in ((2.0, 100), (4.0, 100), (8.0, 200)):
        found = THRESHOLD.at(100, images=images)
        assert found.value == pytest.approx(cosine.back(of_all.at(people)))
        assert found.enrolled == 100
    assert "all images" in THRESHOLD.at(100, images=2.0).setting
    assert "single-shot" in THRESHOLD.at(100, images=1.2).setting


def test_any_cosine_has_a_promise() -> None:
    value = THRESHOLD.at(300).value
    told = [THRESHOLD.promise(value + step, 300).rate for step in (-0.05, 0, 0.05)]
    assert told == sorted(told, reverse=True)
    assert told[1] == pytest.approx(0.05)
    cautious = THRESHOLD.at(300, cautious=True)
    assert cautious.value > value
    assert cautious.rate < cautious.most == pytest.approx(0.05)


def test_what_cannot_be_promised_is_refused() -> None:
    few = Threshold("test people", (setting("infrared", "visible", people=36),))
    assert few.at(30).people == 36
    with pytest.raises(UserError, match="36 people are too few to calibrate a false-alarm rate of 1 %: 99 are needed"):
        few.at(30, rate=0.01)
    with pytest.raises(UserError, match="36 people are too few to calibrate a false-alarm rate of 5 %: 45 are needed"):
        few.at(30, cautious=True)
    with pytest.raises(UserError, match="cannot be carried over to a gallery of 1051: at most 1050"):
        few.at(1051)
    assert few.at(1050).enrolled == 1050
    with pytest.raises(UserError, match="no threshold for a false-alarm rate of 20 %"):
        few.at(30, rate=0.2)


def test_plain_values_come_back() -> None:
    plain = json.loads(json.dumps(THRESHOLD.plain()))
    assert Threshold.of(plain, "a file") == THRESHOLD
    assert [(told["rate"], told["enrolled"]) for told in THRESHOLD.promises()] == [
        (rate, enrolled) for rate in (0.05, 0.1) for enrolled in (30, 100, 300, 1000)
    ]
    assert all(
        told["value"] == THRESHOLD.at(told["enrolled"], rate=told["rate"]).value for told in THRESHOLD.promises()
    )


@pytest.mark.parametrize("nothing", [None, {}, {"value": 0.8, "settings": {"all/single": {"0.05": 0.8}}}, "high"])
def test_no_threshold_is_none(nothing: object) -> None:
    """Nor is one of 0.2, which knew no gallery's size."""
    assert Threshold.of(nothing, "a file") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("place", math.nan), ("scale", 0.0), ("slope", -1.0), ("people", 0), ("errors", [1.0]), ("rate", "x")],
)
def test_a_damaged_threshold_is_refused(name: str, value: object) -> None:
    plain = THRESHOLD.plain()
    plain["settings"][0]["laws"][0][name] = value
    with pytest.raises(UserError, match=r"last\.ckpt holds a threshold that is damaged"):
        Threshold.of(plain, "last.ckpt")
