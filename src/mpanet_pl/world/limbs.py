"""Arms and legs, and what is worn on them. The far one is behind, or the left one of a front or back view."""

import numpy as np

from mpanet_pl.world.body import Body
from mpanet_pl.world.canvas import Limb
from mpanet_pl.world.parts import DEEP, FLAT, SHADED, Part

SLEEVES = {"sleeveless": 0.0, "short": 0.45, "long": 1.0}  # fractions of the arm
LEG_ENDS = {
    ("trousers", "short"): 0.80,
    ("trousers", "long"): 0.945,
    ("shorts", "short"): 0.615,
    ("shorts", "long"): 0.745,
    ("skirt", "short"): 0.63,
    ("skirt", "long"): 0.80,
}
BOOT_TOP = 0.875
CUFF = 0.04  # the end of a trouser leg or a skirt


def draw_arm(body: Body, far: bool) -> None:
    joints = _arm_joints(body, -body.pose.swing if far else body.pose.swing)
    if far and not body.side:
        joints = [(-x, y, radius) for x, y, radius in joints]
    sleeve, forearm = (Part.FAR_SLEEVE, Part.FAR_FOREARM) if far else (Part.SLEEVE, Part.FOREARM)
    shade = SHADED if far and body.side else FLAT
    (x, y, radius), (hand_x, hand_y, _) = joints[0], joints[-1]
    length = SLEEVES[body.wears["sleeves"]]
    shoulder, width = (sleeve, 0.007) if length else (forearm, 0)
    body.canvas.limb(thicker(joints, 0.007), sleeve if length == 1 else forearm, DEEP)  # an outline
    body.canvas.ellipse(hand_x, hand_y + 0.018, 0.022, 0.028, Part.SKIN, shade)
    body.canvas.limb(joints, forearm, shade)
    body.canvas.ellipse(x, y, radius + width, radius + width, shoulder, shade)
    body.canvas.limb(thicker(beginning(joints, length), width), shoulder, shade)
    if body.wears["bag"] == "hand" and not far:
        _draw_hand_bag(body, hand_x, hand_y + 0.02)


def _arm_joints(body: Body, swing: float) -> Limb:
    if body.side:
        return [(0, 0.215, 0.036), (0.05 * swing, 0.355, 0.03), (0.03 + 0.13 * swing, 0.475, 0.021)]
    return [
        (body.shoulder - 0.018, 0.212, 0.034),
        (body.shoulder + 0.022, 0.355 - 0.005 * swing, 0.029),
        (body.shoulder + 0.012 + 0.015 * swing, 0.485 - 0.02 * swing, 0.021),
    ]


def _draw_hand_bag(body: Body, x: float, y: float) -> None:
    body.canvas.limb([(x - 0.03, y + 0.065, 0.006), (x, y + 0.005, 0.006), (x + 0.03, y + 0.065, 0.006)], Part.BAG)
    body.canvas.box(x - 0.055, y + 0.055, x + 0.055, y + 0.15, Part.BAG)
    body.canvas.box(x - 0.055, y + 0.055, x + 0.055, y + 0.075, Part.BAG, SHADED)


def draw_leg(body: Body, far: bool) -> None:
    stride = -body.pose.stride if far else body.pose.stride
    lift = 0.02 * max(0.0, -stride)  # of the foot that is behind
    joints = _leg_joints(body, far, stride, lift)
    shade = SHADED if far and body.side else FLAT
    body.canvas.limb(joints, Part.SKIN, shade)
    _draw_shoe(body, joints, lift, far)
    if body.wears["legwear"] != "skirt":
        end = LEG_ENDS[body.wears["legwear"], body.wears["leg_length"]]
        if body.wears["shoes"] == "boots":
            end = min(end, BOOT_TOP)
        part = Part.FAR_LEG_END if far else Part.LEG_END
        leg = thicker(above(joints, end - lift), 0.014 if body.wears["legwear"] == "shorts" else 0.009)
        body.canvas.limb(leg, Part.LEGWEAR, shade)
        body.canvas.limb(below(leg, end - lift - CUFF), part, shade)
        body.canvas.limb(below(leg, end - lift - 0.01), part, DEEP if shade else SHADED)


def _leg_joints(body: Body, far: bool, stride: float, lift: float) -> Limb:
    if body.side:
        return [(0, 0.49, 0.052), (0.055 * stride + 0.015, 0.715, 0.037), (0.125 * stride - 0.01, 0.95 - lift, 0.022)]
    out = -1 if far else 1
    hip, ankle = out * 0.5 * body.hip, out * (0.45 * body.hip + 0.008 * body.pose.swing)
    return [(hip, 0.49, 0.047), (hip, 0.715, 0.036), (ankle, 0.945 - lift, 0.022)]


def _draw_shoe(body: Body, leg: Limb, lift: float, far: bool) -> None:
    shoe, sole = (Part.FAR_SHOE, Part.FAR_SOLE) if far else (Part.SHOE, Part.SOLE)
    x, bottom = leg[-1][0], 1 - lift
    left, right = x - 0.034, x + (0.078 if body.side else 0.034)
    if body.wears["shoes"] == "boots":
        body.canvas.limb(thicker(below(leg, BOOT_TOP - lift), 0.009), shoe)
    body.canvas.dome((left + right) / 2, bottom - 0.006, (right - left) / 2, 0.042, shoe)
    body.canvas.box(left, bottom - 0.008, right, bottom, shoe, DEEP)
    if body.wears["shoes"] == "light soles":
        body.canvas.box(left - 0.003, bottom - 0.019, right + 0.003, bottom + 0.002, sole)


def thicker(limb: Limb, by: float) -> Limb:
    return [(x, y, radius + by) for x, y, radius in limb]


def beginning(limb: Limb, fraction: float) -> Limb:
    """Up to a fraction of its length, counted in joints.

    >>> beginning([(0, 0, 2), (0, 1, 2), (0, 2, 4)], 0.75)
    [(0, 0, 2), (0, 1, 2), (0.0, 1.5, 3.0)]
    """
    place = fraction * (len(limb) - 1)
    return [*(joint for number, joint in enumerate(limb) if number < place), _between(limb, place)]


def above(limb: Limb, height: float) -> Limb:
    """What of a hanging limb is above a height."""
    return beginning(limb, _place(limb, height) / (len(limb) - 1))


def below(limb: Limb, height: float) -> Limb:
    """What of a hanging limb is below a height."""
    place = _place(limb, height)
    return [_between(limb, place), *(joint for number, joint in enumerate(limb) if number > place)]


def _place(limb: Limb, height: float) -> float:
    return float(np.interp(height, [y for _, y, _ in limb], range(len(limb))))


def _between(limb: Limb, place: float) -> tuple[float, float, float]:
    x, y, radius = (float(np.interp(place, range(len(limb)), column)) for column in zip(*limb, strict=True))
    return x, y, radius
