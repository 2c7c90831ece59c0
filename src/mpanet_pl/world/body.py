"""The body under the clothes: how it stands, and where its torso is. Lengths are in the figure's unit, its height."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpanet_pl.world.canvas import Canvas
from mpanet_pl.world.parts import FLAT, Part
from mpanet_pl.world.people import Person

FACINGS = ("front", "back", "side")
NECK, WAIST = 0.155, 0.5  # heights; the torso reaches on to the knee, as coats do


@dataclass(frozen=True)
class Pose:
    facing: str
    stride: float  # -1 … 1, the near leg's
    swing: float  # -1 … 1, the near arm's
    yaw: float  # -1 … 1, how far a front or back view is turned

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Pose:
        return cls(FACINGS[rng.integers(len(FACINGS))], *rng.uniform(-1, 1, 3))


class Body:
    """A person in a pose on a canvas; the side view looks to the right."""

    def __init__(self, canvas: Canvas, person: Person, pose: Pose) -> None:
        self.canvas, self.wears, self.pose = canvas, person.attributes, pose
        self.side, self.back = pose.facing == "side", pose.facing == "back"
        shoulder, waist, hip = (0.074, 0.066, 0.078) if self.side else (0.118, 0.09, 0.1)
        self.shoulder, self.hip = shoulder * person.build, hip * person.build  # half widths
        self._heights = np.array([NECK, 0.19, 0.22, 0.39, 0.48, WAIST, 0.69])
        self._halves = np.array([0.45, 0.97, 1, waist / shoulder, *(np.array([1, 1.02, 1.3]) * hip / shoulder)])

    def band(
        self, top: float, bottom: float, part: Part, shade: int = FLAT, left: float = -1, right: float = 1
    ) -> None:
        """Fill a slice of the torso, between two heights and between two fractions of its half width."""
        inner = self._heights[(self._heights > top) & (self._heights < bottom)]
        heights = np.array([top, *inner, bottom])
        halves = self.shoulder * np.interp(heights, self._heights, self._halves)
        sides = np.stack([left * halves, heights], axis=1), np.stack([right * halves, heights], axis=1)
        self.canvas.polygon(np.concatenate([sides[0], sides[1][::-1]]), part, shade)
