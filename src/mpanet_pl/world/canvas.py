"""A canvas of inks, and how a figure's frame lies on it.

The figure's frame: x to the right, y down, one unit from the crown to the soles, the feet at (0, 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from mpanet_pl.world.parts import FLAT, Part, ink

SUPERSAMPLING = 2
ANGLES = np.arange(20) * (2 * np.pi / 20)
CIRCLE = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
DOME = np.concatenate([CIRCLE[10:], CIRCLE[:1]])  # the upper half
Limb = Sequence[tuple[float, float, float]]  # joints (x, y, radius)


@dataclass(frozen=True)
class View:
    """How a camera sees a figure."""

    scale: float  # the figure's unit in heights of the image
    x: float  # of the feet, in widths of the image
    y: float  # of the feet, in heights of the image
    lean: float  # sideways, per unit of height
    mirrored: bool


class Canvas:
    def __init__(self, height: int, width: int, view: View) -> None:
        self._image = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
        self._draw = ImageDraw.Draw(self._image)
        unit = view.scale * self._image.height
        self._matrix = np.array([[-unit if view.mirrored else unit, 0.0], [view.lean * unit, unit]])
        self._offset = (view.x * self._image.width, view.y * self._image.height) - self._matrix[1]

    @property
    def inks(self) -> np.ndarray:
        """(height, width) times the supersampling, uint8."""
        return np.asarray(self._image)

    def polygon(self, points: np.ndarray, part: Part, shade: int = FLAT) -> None:
        """Fill the polygon with these corners (n, 2) of the figure's frame."""
        self._draw.polygon((points @ self._matrix + self._offset).ravel().tolist(), fill=ink(part, shade))

    def ellipse(self, x: float, y: float, rx: float, ry: float, part: Part, shade: int = FLAT) -> None:
        self.polygon(CIRCLE * (rx, ry) + (x, y), part, shade)

    def dome(self, x: float, y: float, rx: float, ry: float, part: Part, shade: int = FLAT) -> None:
        """The upper half of an ellipse."""
        self.polygon(DOME * (rx, ry) + (x, y), part, shade)

    def box(self, left: float, top: float, right: float, bottom: float, part: Part, shade: int = FLAT) -> None:
        self.polygon(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), part, shade)

    def limb(self, joints: Limb, part: Part, shade: int = FLAT) -> None:
        """Tapered pieces between joints; round where they meet, cut at both ends."""
        for (x0, y0, r0), (x1, y1, r1) in pairwise(joints):
            start, end = np.array([x0, y0]), np.array([x1, y1])
            across = np.array([y0 - y1, x1 - x0]) / (np.hypot(x1 - x0, y1 - y0) + 1e-9)
            corners = [start + across * r0, end + across * r1, end - across * r1, start - across * r0]
            self.polygon(np.array(corners), part, shade)
        for x, y, radius in joints[1:-1]:
            self.ellipse(x, y, radius, radius, part, shade)

    def block(self, left: float, top: float, right: float, bottom: float, part: Part) -> None:
        """Fill a rectangle given in fractions of the image, whatever the view."""
        width, height = self._image.size
        self._draw.rectangle((left * width, top * height, right * width, bottom * height), fill=ink(part))
