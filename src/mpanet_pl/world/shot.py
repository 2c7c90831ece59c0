"""One image of the world: somebody in a pose, before a camera, behind whatever stands in the way."""

import math
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from mpanet_pl.system.ranges import Seed, Weight, checked, number
from mpanet_pl.world.body import Pose
from mpanet_pl.world.canvas import Canvas, View
from mpanet_pl.world.figure import draw_figure
from mpanet_pl.world.paint import paint
from mpanet_pl.world.parts import Part
from mpanet_pl.world.people import DYES, LIGHT, SHOTS, Person, dyed, generator
from mpanet_pl.world.places import Place, find_place

STEP = 8  # frames
Size = Annotated[int, number(16, 4096)]  # pixels
Shift = Annotated[float, number(-3, 3)]


@dataclass(frozen=True)
class Shot:
    """What an image shows; with the world's seed this is all that its pixels depend on."""

    path: str
    identity: int
    camera: int
    infrared: bool
    number: int
    frame: int | None = None  # of a tracklet, whose number is then `number`


@checked
@dataclass(frozen=True, kw_only=True)
class Look:
    """What all images of a world have in common."""

    seed: Seed = 1
    height: Size = 128
    width: Size = 64
    hardness: Weight = 1.0  # of light, blur, noise, occlusion and loose crops; 0 is a studio
    light: Shift = 0.0  # below 0 darker, above brighter than other worlds, in doublings of gamma
    cameras: Seed | None = None  # the seed of where cameras hang; None: the world's

    def inks(self, shot: Shot, person: Person) -> np.ndarray:
        """Who is where in the image, before any light or colour; see `parts`."""
        view, pose, rng = self._stance(shot, person)
        canvas = Canvas(self.height, self.width, view)
        draw_figure(canvas, person, pose)
        if rng.uniform() < 0.15 * self.hardness:
            _hide(canvas, rng)
        return canvas.inks

    def facing(self, shot: Shot, person: Person) -> str:
        """Which side of the person is seen."""
        return self._stance(shot, person)[1].facing

    def _stance(self, shot: Shot, person: Person) -> tuple[View, Pose, np.random.Generator]:
        """How the person stands, and what draws whatever hides them."""
        rng = self._generator(SHOTS, shot)
        place, loose = self._place(shot), self.hardness
        view = View(
            scale=place.size * person.height * (1 + 0.06 * loose * rng.uniform(-1, 1)),
            x=0.5 + 0.07 * loose * rng.uniform(-1, 1),
            y=0.965 + 0.03 * loose * rng.uniform(-1, 1),
            lean=place.lean + 0.03 * loose * rng.uniform(-1, 1),
            mirrored=bool(rng.integers(2)),
        )
        pose = Pose.draw(rng)
        return (view, pose, rng) if shot.frame is None else (*walked(view, pose, shot.frame, self.hardness), rng)

    def picture(self, shot: Shot, person: Person, inks: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8."""
        key = (LIGHT,) if shot.frame is None else (LIGHT, shot.frame)
        rng = generator(self.seed, *key, shot.identity, shot.camera, shot.infrared, shot.number)
        return paint(inks, person, self._place(shot), self.hardness, rng)

    def dyed(self, shot: Shot, person: Person) -> Person:
        """As they are dressed for this image alone."""
        return dyed(person, self._generator(DYES, shot))

    def _place(self, shot: Shot) -> Place:
        seed = self.seed if self.cameras is None else self.cameras
        place = find_place(seed, shot.camera, shot.infrared, self.height, self.width)
        return replace(place, gamma=place.gamma * 2**-self.light) if self.light else place

    def _generator(self, stream: int, shot: Shot) -> np.random.Generator:
        return generator(self.seed, stream, shot.identity, shot.camera, shot.infrared, shot.number)


def walked(view: View, pose: Pose, frame: int, hardness: float) -> tuple[View, Pose]:
    """The same person some frames later: a step takes eight of them, and whatever hides the person stands still."""
    turn = 2 * math.pi * frame / STEP
    ahead = -1 if view.mirrored else 1
    place = view.x + ahead * hardness * 0.12 * math.sin(frame / 12)
    stride = math.sin(turn + math.asin(pose.stride))
    return replace(view, x=place), replace(pose, stride=stride, swing=-stride * abs(pose.swing))


def _hide(canvas: Canvas, rng: np.random.Generator) -> None:
    """A pole before the person, or something low."""
    if rng.integers(2):
        left = rng.uniform(0.2, 0.7)
        canvas.block(left, 0, left + rng.uniform(0.06, 0.16), 1, Part.OCCLUDER)
    else:
        left = rng.uniform(-0.3, 0.6)
        canvas.block(left, rng.uniform(0.65, 0.85), left + rng.uniform(0.4, 0.9), 1, Part.OCCLUDER)
