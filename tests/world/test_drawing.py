"""The drawn world, by its laws: randomness is keyed, what tells people apart shows, colour crosses no modality."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mpanet_pl.world import NUANCES, Look
from mpanet_pl.world.body import Pose
from mpanet_pl.world.canvas import Canvas, View
from mpanet_pl.world.figure import draw_figure
from mpanet_pl.world.parts import Part, ink, visible_boxes
from mpanet_pl.world.people import DISTANCE, LUMINANCE, TOUCHES, Material, Person, populate
from mpanet_pl.world.shot import Shot

LOOK = Look(seed=3)
CROWD = populate(3, [range(1, 201)], siblings=0.5)
SOMEBODY = CROWD[200]
VIEW = View(scale=0.85, x=0.5, y=0.96, lean=0.0, mirrored=False)


def picture(shot: Shot, person: Person = SOMEBODY, look: Look = LOOK) -> np.ndarray:
    return look.picture(shot, person, look.inks(shot, person))


def inks_of(person: Person, facing: str) -> np.ndarray:
    canvas = Canvas(128, 64, VIEW)
    draw_figure(canvas, person, Pose(facing, stride=0.5, swing=0.3, yaw=0.2))
    return canvas.inks


def boxes_of(person: Person, facing: str) -> dict[str, np.ndarray]:
    return dict(zip(NUANCES, visible_boxes(inks_of(person, facing)), strict=True))


def wearing(**attributes: str) -> Person:
    plain = {"glasses": "none", "headwear": "none", "hair": "short", "hem": "waist", "bag": "none", "scarf": "none"}
    return replace(SOMEBODY, attributes=SOMEBODY.attributes | plain | {"legwear": "trousers"} | attributes)


def test_a_picture_depends_on_nothing_that_was_drawn_before_it() -> None:
    shot, other = Shot("", 200, 1, False, 1), Shot("", 200, 1, False, 2)
    first = picture(shot)
    assert not np.array_equal(picture(other), first)
    assert np.array_equal(picture(shot), first)
    assert not np.array_equal(picture(shot, look=replace(LOOK, seed=4)), first)


def test_pictures_are_colour_by_day_and_three_equal_channels_in_infrared() -> None:
    visible, infrared = picture(Shot("", 200, 1, False, 1)), picture(Shot("", 200, 3, True, 1))
    assert visible.shape == infrared.shape == (128, 64, 3)
    assert visible.dtype == infrared.dtype == np.uint8
    assert np.array_equal(infrared[..., 0], infrared[..., 1])
    assert np.array_equal(infrared[..., 0], infrared[..., 2])
    assert not np.array_equal(visible[..., 0], visible[..., 1])


def test_a_colour_says_nothing_of_the_reflectance() -> None:
    people = populate(1, [range(800)], siblings=0.0).values()
    grey = np.array([person.visible @ LUMINANCE for person in people])
    reflectance = np.array([person.infrared[:, 0] for person in people])
    for material in set(Material) - {Material.FRAMES, Material.SOLES}:
        assert abs(np.corrcoef(grey[:, material], reflectance[:, material])[0, 1]) < 0.12


def test_materials_that_touch_differ_in_both_modalities() -> None:
    for person in CROWD.values():
        for material, neighbours in TOUCHES.items():
            for neighbour in neighbours:
                assert abs(person.infrared[material, 0] - person.infrared[neighbour, 0]) >= DISTANCE
                assert abs((person.visible[material] - person.visible[neighbour]) @ LUMINANCE) >= 0.8 * DISTANCE


def test_siblings_are_equal_in_all_but_one_nuance() -> None:
    for elder, younger in ((CROWD[identity], CROWD[identity + 1]) for identity in range(1, 100, 2)):
        assert elder.siblings == younger.siblings is not None
        assert elder.differs == younger.differs is not None
        different = [name for name in NUANCES if elder.attributes[name] != younger.attributes[name]]
        assert different == [elder.differs]
        assert (elder.height, elder.build) == (younger.height, younger.build)
        assert np.array_equal(elder.visible, younger.visible)
        assert np.array_equal(elder.infrared, younger.infrared)


def test_half_have_siblings_and_every_nuance_has_its_turn() -> None:
    assert sum(person.siblings is not None for person in CROWD.values()) == 100
    turns = Counter(person.differs for person in CROWD.values() if person.differs)
    assert set(turns) == set(NUANCES)
    assert max(turns.values()) - min(turns.values()) <= 4


def test_a_share_of_siblings_leaves_everybody_else_as_they_are() -> None:
    alone = populate(3, [range(1, 201)], siblings=0.0)
    assert alone[200].attributes == SOMEBODY.attributes
    assert np.array_equal(alone[200].visible, SOMEBODY.visible)


@pytest.mark.parametrize("nuance", NUANCES)
@pytest.mark.parametrize("facing", ["front", "side", "back"])
def test_a_nuance_changes_what_is_drawn_where_its_box_says(nuance: str, facing: str) -> None:
    drawn = [wearing(**{nuance: value}) for value in NUANCES[nuance]]
    for one, another in pairwise(drawn):
        rows, columns = np.nonzero(inks_of(one, facing) != inks_of(another, facing))
        boxes = np.array([boxes_of(one, facing)[nuance], boxes_of(another, facing)[nuance]])
        if np.isnan(boxes).all():
            assert facing == "back"
            assert nuance in ("glasses", "front")
            continue
        left, top = np.nanmin(boxes[:, :2], axis=0)
        right, bottom = np.nanmax(boxes[:, 2:], axis=0)
        inside = (left <= columns / 128) & (columns / 128 < right) & (top <= rows / 256) & (rows / 256 < bottom)
        assert inside.sum() > 10


def test_who_is_dyed_keeps_the_cut_of_their_clothes_and_no_colour() -> None:
    shots = [Shot("", 200, 1, False, number) for number in range(3)]
    dressed = [LOOK.dyed(shot, SOMEBODY) for shot in shots]
    for one, another in pairwise([SOMEBODY, *dressed]):
        assert one.attributes == another.attributes
        assert (one.height, one.build) == (another.height, another.build)
        assert not np.isclose(one.visible, another.visible)[: Material.SOLES].any(axis=1).any()
        assert not np.isclose(one.infrared, another.infrared)[: Material.SOLES].any()
    assert np.array_equal(LOOK.dyed(shots[0], SOMEBODY).visible, dressed[0].visible)


def test_what_nobody_wears_is_never_visible() -> None:
    for shot in (Shot("", 200, 1, False, number) for number in range(20)):
        boxes = dict(zip(NUANCES, visible_boxes(LOOK.inks(shot, wearing(front="plain", pattern="plain"))), strict=True))
        for name in ("glasses", "headwear", "front", "pattern", "bag", "scarf"):
            assert np.isnan(boxes[name]).all()


def test_glasses_vanish_from_behind_and_a_backpack_shows_best_there() -> None:
    person = wearing(glasses="dark", bag="backpack")
    assert np.isnan(boxes_of(person, "back")["glasses"]).all()
    assert not np.isnan(boxes_of(person, "front")["glasses"]).any()
    bag = [(inks_of(person, facing) // 4 == Part.BAG).sum() for facing in ("back", "front")]
    assert bag[0] > 1.5 * bag[1] > 0


def test_boxes_are_where_things_are() -> None:
    boxes = boxes_of(wearing(headwear="cap", shoes="boots", scarf="scarf"), "front")
    assert boxes["headwear"][3] < boxes["scarf"][1] + 0.05 < boxes["shoes"][1]
    assert all(0 <= edge <= 1 for box in boxes.values() for edge in box if not np.isnan(edge))


def test_a_box_surrounds_its_region_and_follows_the_image() -> None:
    inks = np.zeros((40, 20), np.uint8)
    inks[10:20, 5:10] = ink(Part.SCARF)
    box = visible_boxes(inks)[list(NUANCES).index("scarf")]
    assert box.tolist() == [0.25, 0.25, 0.5, 0.5]
    inks[10:20, 5:10] = ink(Part.OCCLUDER)
    assert np.isnan(visible_boxes(inks)).all()


def test_a_studio_is_calm() -> None:
    studio = replace(LOOK, hardness=0.0)
    assert all(not (studio.inks(Shot("", 1, 1, False, n), SOMEBODY) // 4 == Part.OCCLUDER).any() for n in range(30))
