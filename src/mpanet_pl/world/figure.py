"""Drawing a whole person, back to front; each facing has its own order."""

from mpanet_pl.world.body import Body, Pose
from mpanet_pl.world.canvas import Canvas
from mpanet_pl.world.head import draw_hair_behind, draw_head
from mpanet_pl.world.limbs import draw_arm, draw_leg
from mpanet_pl.world.outfit import draw_backpack, draw_hips, draw_shoulder_bag, draw_straps, draw_torso
from mpanet_pl.world.parts import SHADED, Part
from mpanet_pl.world.people import Person


def draw_figure(canvas: Canvas, person: Person, pose: Pose) -> None:
    body, bag = Body(canvas, person, pose), person.attributes["bag"]
    canvas.ellipse(0, 0.995, 0.17, 0.02, Part.BACKGROUND, SHADED)  # a shadow on the floor
    if body.side:
        if bag == "backpack":
            draw_backpack(body)
        draw_arm(body, far=True)
    draw_leg(body, far=True)
    draw_leg(body, far=False)
    draw_hips(body)
    if pose.facing == "front":
        draw_hair_behind(body)
    draw_torso(body)
    if bag == "backpack" and not body.back:
        draw_straps(body)
    if bag == "shoulder":
        draw_shoulder_bag(body)
    if not body.side:
        draw_arm(body, far=True)
    draw_arm(body, far=False)
    if bag == "backpack" and body.back:
        draw_backpack(body)
    draw_head(body)
