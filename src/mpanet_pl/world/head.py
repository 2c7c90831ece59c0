"""The head: hair, eyes or glasses, and what is worn on top."""

from mpanet_pl.world.body import Body
from mpanet_pl.world.parts import DEEP, LIT, SHADED, Part

HAIR_ENDS = {"chin": 0.158, "long": 0.27}  # short hair is the cap of hair alone
EYES = 0.08


def draw_hair_behind(body: Body) -> None:
    """What of long hair is seen left and right of the neck, from the front."""
    if end := HAIR_ENDS.get(body.wears["hair"]):
        body.canvas.box(-0.058, 0.07, 0.058, end, Part.HAIR, SHADED)


def draw_head(body: Body) -> None:
    canvas, end = body.canvas, HAIR_ENDS.get(body.wears["hair"])
    turn = 0.016 * body.pose.yaw
    if body.back:
        canvas.ellipse(0, 0.074, 0.05, 0.07, Part.SKIN)
        canvas.ellipse(0, 0.066, 0.056, 0.068, Part.HAIR)
        if end:
            canvas.box(-0.056, 0.07, 0.056, end, Part.HAIR)
            canvas.box(-0.02, 0.09, 0.0, end - 0.01, Part.HAIR, LIT)
    elif body.side:
        canvas.ellipse(-0.006, 0.068, 0.06, 0.067, Part.HAIR)
        canvas.ellipse(0.014, 0.08, 0.046, 0.063, Part.SKIN)
        canvas.box(0.052, 0.08, 0.068, 0.094, Part.SKIN)  # the nose
        canvas.ellipse(-0.03, 0.07, 0.034, 0.05, Part.HAIR)
        if end:
            canvas.box(-0.066, 0.07, -0.008, end, Part.HAIR)
        _draw_eyes(body, [0.048], -0.02)
    else:
        canvas.ellipse(0, 0.066, 0.056, 0.067, Part.HAIR)
        canvas.ellipse(turn, 0.084, 0.045, 0.06, Part.SKIN)
        if end:
            canvas.box(-0.062, 0.06, -0.036, end, Part.HAIR)
            canvas.box(0.036, 0.06, 0.062, end, Part.HAIR)
        canvas.box(turn - 0.012, 0.119, turn + 0.012, 0.126, Part.SKIN, DEEP)  # the mouth
        _draw_eyes(body, [turn - 0.021, turn + 0.021], turn - 0.045)
    _draw_headwear(body)


def _draw_eyes(body: Body, eyes: list[float], temple: float) -> None:
    if body.wears["glasses"] == "none":
        for x in eyes:
            body.canvas.box(x - 0.007, EYES - 0.004, x + 0.007, EYES + 0.004, Part.SKIN, DEEP)
        return
    for x in eyes:
        body.canvas.ellipse(x, EYES, 0.021, 0.019, Part.FRAMES)
        if body.wears["glasses"] == "clear":
            body.canvas.ellipse(x, EYES, 0.0125, 0.0105, Part.LENSES, LIT)
    body.canvas.box(temple, EYES - 0.01, eyes[-1], EYES - 0.004, Part.FRAMES)


def _draw_headwear(body: Body) -> None:
    canvas = body.canvas
    if body.wears["headwear"] == "cap":
        canvas.dome(-0.004 * body.side, 0.058, 0.061, 0.062, Part.HEADWEAR)
        if body.side:
            canvas.box(0.0, 0.046, 0.125, 0.06, Part.HEADWEAR, SHADED)
        elif not body.back:
            canvas.ellipse(0.03 * body.pose.yaw, 0.056, 0.058, 0.012, Part.HEADWEAR, SHADED)
    elif body.wears["headwear"] == "beanie":
        canvas.dome(-0.004 * body.side, 0.062, 0.063, 0.082, Part.HEADWEAR)
        canvas.ellipse(0, -0.022, 0.02, 0.018, Part.HEADWEAR, LIT)
        canvas.box(-0.064, 0.042, 0.06, 0.064, Part.HEADWEAR, SHADED)
    elif body.wears["headwear"] == "hat":
        canvas.box(-0.052, -0.018, 0.052, 0.045, Part.HEADWEAR)
        canvas.ellipse(0, 0.047, 0.108, 0.015, Part.HEADWEAR, SHADED)
