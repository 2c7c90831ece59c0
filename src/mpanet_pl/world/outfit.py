"""What is worn on the torso: jacket or coat, its pattern and front, scarf and bags; the skirt hangs from it."""

import numpy as np

from mpanet_pl.world.body import NECK, WAIST, Body
from mpanet_pl.world.limbs import CUFF, LEG_ENDS
from mpanet_pl.world.parts import FLAT, SHADED, Part

HEMS = {"waist": WAIST, "thigh": 0.59, "knee": 0.69}


def draw_hips(body: Body) -> None:
    """The top of the trousers, or the skirt."""
    top = WAIST - 0.01
    if body.wears["legwear"] != "skirt":
        body.band(top, 0.53, Part.LEGWEAR)
        return
    end = LEG_ENDS["skirt", body.wears["leg_length"]]
    waist, wide = 0.95 * body.hip, body.hip * (1 + 1.1 * (end - WAIST)) + 0.09 * body.side * abs(body.pose.stride)
    for start, part, shade in (
        (top, Part.LEGWEAR, FLAT),
        (end - CUFF, Part.LEG_END, FLAT),
        (end - 0.01, Part.LEG_END, SHADED),
    ):
        half = float(np.interp(start, [top, end], [waist, wide]))
        body.canvas.polygon(np.array([(-half, start), (half, start), (wide, end), (-wide, end)]), part, shade)


def draw_torso(body: Body) -> None:
    hem = HEMS[body.wears["hem"]]
    body.canvas.limb([(0.012 * body.side, 0.12, 0.03), (0, 0.18, 0.033)], Part.SKIN, SHADED)  # the neck
    body.band(NECK, hem, Part.TORSO)
    body.band(0.2, hem, Part.TORSO, SHADED, -1, -0.72)
    if body.wears["pattern"] == "stripes":
        for stripe in np.arange(0.215, hem - 0.06, 0.062):
            body.band(stripe, stripe + 0.031, Part.PATTERN)
    if body.wears["pattern"] == "block":
        body.band(0.2, 0.335, Part.PATTERN)
    body.band(hem - 0.04, hem, Part.HEM)
    body.band(hem - 0.012, hem, Part.HEM, SHADED)
    if not body.back:
        _draw_front(body, hem)
    if body.wears["scarf"] == "scarf":
        _draw_scarf(body)


def _draw_front(body: Body, hem: float) -> None:
    """A zip, or an open front and what is seen through it."""
    middle = 0.85 if body.side else 0.25 * body.pose.yaw
    if body.wears["front"] == "zip":
        half = 0.1 if body.side else 0.075
        body.band(NECK, hem, Part.FRONT, FLAT, middle - half, middle + half)
    elif body.wears["front"] == "open":
        half = 0.15 if body.side else 0.3
        body.band(NECK, WAIST, Part.FRONT, FLAT, middle - half, middle + half)
        if hem > WAIST:
            body.band(WAIST, hem, Part.FRONT_BELOW, SHADED, middle - half, middle + half)


def _draw_scarf(body: Body) -> None:
    reach = 0.8 * body.shoulder if body.side else 0.066
    body.canvas.ellipse(0, 0.168, reach, 0.03, Part.SCARF)
    body.canvas.ellipse(0, 0.155, 0.8 * reach, 0.02, Part.SCARF, SHADED)
    if not body.back:
        x = body.shoulder if body.side else 0.03 + 0.02 * body.pose.yaw
        body.canvas.box(x - 0.022, 0.17, x + 0.022, 0.315, Part.SCARF)
        body.canvas.box(x - 0.022, 0.3, x + 0.022, 0.315, Part.SCARF, SHADED)


def draw_shoulder_bag(body: Body) -> None:
    x = 0.0 if body.side else body.hip + 0.005
    top, bottom = -0.02 if body.side else -0.6 * body.shoulder, x - 0.02
    strap = [(top - 0.014, 0.165), (top + 0.014, 0.165), (bottom + 0.014, 0.46), (bottom - 0.014, 0.46)]
    body.canvas.polygon(np.array(strap), Part.BAG)
    body.canvas.box(x - 0.06, 0.455, x + 0.06, 0.555, Part.BAG)
    body.canvas.box(x - 0.06, 0.455, x + 0.06, 0.485, Part.BAG, SHADED)


def draw_straps(body: Body) -> None:
    """Of a backpack, on whoever does not show their back."""
    if body.side:
        body.band(0.18, 0.34, Part.BAG, FLAT, -0.35, 0.05)
    else:
        for left in (-0.66, 0.4):
            body.band(0.165, 0.37, Part.BAG, FLAT, left, left + 0.26)


def draw_backpack(body: Body) -> None:
    if body.side:
        body.canvas.ellipse(-body.shoulder - 0.015, 0.31, 0.075, 0.115, Part.BAG)
        body.canvas.ellipse(-body.shoulder - 0.05, 0.35, 0.035, 0.06, Part.BAG, SHADED)
    else:
        body.canvas.box(-0.082, 0.215, 0.082, 0.43, Part.BAG)
        body.canvas.dome(0, 0.217, 0.082, 0.045, Part.BAG)
        body.canvas.box(-0.055, 0.32, 0.055, 0.41, Part.BAG, SHADED)
