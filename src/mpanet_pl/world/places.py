"""The places where cameras hang: what is behind the people there, and how the camera sees them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mpanet_pl.world.people import CAMERAS, generator


@dataclass(frozen=True, eq=False)
class Place:
    """What a camera adds to the people before it."""

    infrared: bool
    background: np.ndarray  # (rows, columns, channels) in [0, 1], larger than an image
    gain: np.ndarray  # (channels,): a tint, or an infrared response
    gamma: float
    contrast: float
    size: float  # of people, in heights of the image
    lean: float
    noise: float
    occluder: np.ndarray  # (channels,)


@lru_cache(maxsize=64)
def find_place(seed: int, number: int, infrared: bool, height: int, width: int) -> Place:
    rng = generator(seed, CAMERAS, number, infrared)
    return Place(
        infrared=infrared,
        background=_scene(rng, height, width, infrared),
        gain=(rng.uniform(0.9, 1.15, 1) if infrared else rng.uniform(0.85, 1.12, 3)).astype(np.float32),
        gamma=rng.uniform(0.8, 1.25),
        contrast=rng.uniform(0.8, 1.1),
        size=rng.uniform(0.83, 0.91),
        lean=rng.uniform(-0.06, 0.06),
        noise=rng.uniform(0.012, 0.03) if infrared else rng.uniform(0.005, 0.015),
        occluder=_tint(rng, rng.uniform(0.1, 0.8), infrared),
    )


def _tint(rng: np.random.Generator, tone: float, infrared: bool) -> np.ndarray:
    """A dull colour of this grey level, or the grey level."""
    return np.array([tone]) if infrared else np.clip(tone + rng.uniform(-0.09, 0.09, 3), 0, 1)


def _scene(rng: np.random.Generator, height: int, width: int, infrared: bool) -> np.ndarray:
    """A wall with things on it and a floor, larger than an image, so that images can be cut out of it."""
    rows, columns = height * 5 // 4, width * 2
    horizon = rng.uniform(0.55, 0.78)
    wall, floor = _tint(rng, rng.uniform(0.25, 0.75), infrared), _tint(rng, rng.uniform(0.2, 0.65), infrared)
    y = np.linspace(0, 1, rows)[:, None, None]
    scene = np.where(y < horizon, wall * (0.85 + 0.3 * y), floor * (0.75 + 0.4 * y))
    scene = np.broadcast_to(scene, (rows, columns, len(wall))).copy()
    for _ in range(rng.integers(3, 8)):  # doors, windows, posters
        left, top = rng.uniform(-0.1, 0.95), rng.uniform(0, 0.6)
        right, bottom = left + rng.uniform(0.05, 0.35), min(top + rng.uniform(0.1, 0.6), horizon)
        box = slice(int(top * rows), int(bottom * rows)), slice(int(max(left, 0) * columns), int(right * columns))
        scene[box] = 0.45 * scene[box] + 0.55 * _tint(rng, rng.uniform(0.1, 0.9), infrared)
    lines = int(rng.integers(6, 20))
    scene[int(horizon * rows) :: lines] *= 0.82  # tiles
    scene[:, :: 2 * lines] *= 0.93
    return scene.astype(np.float32)
