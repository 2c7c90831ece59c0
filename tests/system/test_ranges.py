"""What a signature says of its keywords: ranges, keys, what is handed on, and what is checked before all else."""

import math
from typing import Annotated, Any

import pytest

from mpanet_pl.errors import UserError
from mpanet_pl.system.hints import Part, Unfit, read
from mpanet_pl.system.ranges import (
    Count,
    Finite,
    Place,
    Positive,
    Probability,
    Seed,
    Share,
    Trials,
    Weight,
    Whole,
    Workers,
    checked,
    hints_of,
    keys_of,
    number,
    parameters,
)

TINY = math.nextafter(0, 1)


@pytest.mark.parametrize(
    ("hint", "fit", "unfit"),
    [
        (Count, [1, 10**9], [0, -1]),
        (Whole, [0, 7], [-1]),
        (Weight, [0, 0.5, 9e9], [-TINY, math.inf, math.nan]),
        (Positive, [TINY, 3], [0, -1.0, math.inf]),
        (Finite, [-9e9, 0, 9e9], [-math.inf, math.inf, math.nan]),
        (Share, [0, 0.5, 1], [-TINY, 1.0001]),
        (Probability, [0, 0.5, 1], [-TINY, 1.0001]),
        (Seed, [0, 2**32 - 1], [-1, 2**32]),
        (Workers, [0, 512], [-1, 513]),
        (Trials, [1, 1000], [0, 1001]),
        (Place, ["x", "~/x", "/no"], ["", "no", "~nobody_of_this_name/x"]),
        (Annotated[float, number(above=2, most=3)], [2.1, 3], [2, 3.1]),
    ],
)
def test_a_range_ends_where_it_says(hint: Any, fit: list, unfit: list) -> None:
    assert [read(hint, value) for value in fit] == fit
    for value in unfit:
        with pytest.raises(Unfit):
            read(hint, value)


class Base:
    def __init__(self, size: int, shared: str = "", none: float = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013


class HandsOn(Base):
    def __init__(self, own: bool = True, *rest: int, shared: int = 1, **more: Any) -> None: ...


class Between(HandsOn):
    """Has no constructor of its own."""


def open_function(first: int, **more: Any) -> None: ...


def test_a_constructors_keywords_are_its_own_then_those_that_it_hands_on() -> None:
    base = {"size": int, "shared": str, "none": float | None}
    assert parameters(Base) == (base, False)
    for maker in (HandsOn, Between):
        found, open_ = parameters(maker)
        assert (found, open_) == ({"own": bool, "shared": int, **base, **{"shared": int}}, True)
    assert parameters(open_function) == ({"first": int}, True)
    assert parameters({"named": int}) == ({"named": int}, False)
    assert parameters(len.__class__) == ({}, True), "what is written in C says nothing"


def test_of_a_choice_the_chosen_ones_keys_are_taken_and_the_others_may_be_null() -> None:
    of = {"steps": {"gamma": float, "milestones": list[int]}, "cosine": {"end": float}}
    part = Part(of, by="name", default="steps", besides={"warmup": int, "end": float})
    hints, open_ = keys_of(part, {})
    assert not open_
    assert hints.keys() == {"gamma", "milestones", "end", "warmup", "name"}
    assert (read(hints["gamma"], "0.5"), read(hints["warmup"], 3), read(hints["end"], None)) == (0.5, 3, None)
    with pytest.raises(Unfit, match=r"null \(steps has no such key\)"):
        read(hints["end"], 0.5)
    cosine, _ = keys_of(part, {"name": "cosine"})
    assert read(cosine["end"], 0.5) == 0.5
    with pytest.raises(Unfit, match=r"null \(cosine has no such key\)"):
        read(cosine["gamma"], 0.5)
    with pytest.raises(Unfit, match="steps or cosine"):
        read(hints["name"], "linear")


def test_a_group_without_a_class_of_its_own_takes_any_key_where_none_is_named() -> None:
    assert keys_of(None, {}) == ({}, True)
    assert keys_of(None, {"_target_": "my.Class"}) == ({}, False)
    assert keys_of(Part("no_such_package.Class", besides={"more": int}), {}) == ({"more": int}, True)
    assert keys_of(Part(Part(Base)), {}) == keys_of(Part(Base), {}) == parameters(Base)
    assert keys_of(Part(Base, besides={"size": str}), {})[0]["size"] is str


def test_annotations_that_nobody_can_evaluate_are_anything() -> None:
    def theirs(size: "int", other: "NoSuchType", plain: float) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert hints_of(theirs) == {"size": int, "other": Any, "plain": float, "return": None}


@checked
class Blur:
    def __init__(self, chance: Share = 0.5, *, radius: Count = 3) -> None:
        self.chance, self.radius = chance, radius


@checked
def halved(value: Weight) -> float:
    return value / 2


def test_arguments_are_checked_before_anything_else() -> None:
    blur = Blur("0.25", radius="4")  # type: ignore[arg-type]
    assert (blur.chance, blur.radius, Blur().radius, halved("3")) == (0.25, 4, 3, 1.5)  # type: ignore[arg-type]
    with pytest.raises(UserError) as told:
        Blur(2, radius=0)
    assert "chance must be between 0 and 1, got 2." in str(told.value)
    assert "radius must be at least 1, got 0." in str(told.value)
    with pytest.raises(TypeError, match=r"Blur\.__init__\(\).*'size'"):
        Blur(size=3)  # type: ignore[call-arg]
