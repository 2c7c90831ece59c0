"""Cameras and light: from inks to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from mpanet_pl.data.nuances.canvas import SUPERSAMPLING
from mpanet_pl.data.nuances.parts import INKS, MATERIALS, SHADED, SHADES, Part, ink
from mpanet_pl.data.nuances.people import CAMERAS, Person, generator

PARTS_OF_INK = [Part(number // len(SHADES)) for number in range(INKS)]
MATERIAL_OF_INK = np.array([MATERIALS.get(part, 0) for part in PARTS_OF_INK])
SHADE_OF_INK = np.array([SHADES[number % len(SHADES)] for number in range(INKS)])


@dataclass(frozen=True, eq=False)
class Camera:
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
def camera(seed: int, number: int, infrared: bool, height: int, width: int) -> Camera:
    rng = generator(seed, CAMERAS, number, infrared)
    return Camera(
        infrared=infrared,
        background=_scene(rng, height, width, infrared),
        gain=rng.uniform(0.9, 1.15, 1) if infrared else rng.uniform(0.85, 1.12, 3),
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
    """A wall with things on it and a floor, half as large again as an image."""
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


def paint(inks: np.ndarray, person: Person, camera: Camera, hardness: float, rng: np.random.Generator) -> np.ndarray:
    """What this camera makes of the inks: (H, W, 3) uint8; three equal channels in infrared."""
    figure, cover = _flat_figure(inks, person, camera)
    height, width = cover.shape[:2]
    light = _light(rng, height, width, camera.infrared, hardness)
    top, left = (
        int(rng.integers(room - size + 1)) for room, size in zip(camera.background.shape, (height, width), strict=False)
    )
    behind = camera.background[top : top + height, left : left + width]
    picture = (figure + (1 - cover) * behind) * light
    picture = np.clip(picture, 0, 1) ** camera.gamma * camera.gain
    picture = 0.5 + (picture - 0.5) * camera.contrast * rng.uniform(1 - 0.2 * hardness, 1 + 0.1 * hardness)
    picture = _blurred(picture, 0.8 * hardness * rng.uniform() ** 2)
    noise = camera.noise * hardness * rng.uniform(0.5, 1.5)
    picture = picture + noise * rng.standard_normal(picture.shape, np.float32)
    pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if camera.infrared else pixels


def _flat_figure(inks: np.ndarray, person: Person, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The figure's flat colours on black (H, W, C) and how much of each pixel it and its shadow cover (H, W, 1)."""
    materials = person.infrared if camera.infrared else person.visible
    palette = np.zeros((INKS, 4), np.float32)
    palette[:, :3] = materials[MATERIAL_OF_INK] * SHADE_OF_INK[:, None]
    palette[: ink(Part.SKIN), :3] = camera.occluder
    palette[: ink(Part.OCCLUDER), :3] = 0
    palette[ink(Part.OCCLUDER) :, 3] = 1
    palette[ink(Part.BACKGROUND, SHADED), 3] = 0.3
    bands = (np.clip(palette, 0, 1) * 255).astype(np.uint8)[inks]
    small = Image.frombuffer("RGBX", inks.shape[::-1], bands.tobytes(), "raw", "RGBX", 0, 1).reduce(SUPERSAMPLING)
    pixels = np.asarray(small, np.float32) / 255
    return pixels[..., : len(camera.gain)], pixels[..., 3:]


def _light(rng: np.random.Generator, height: int, width: int, infrared: bool, hardness: float) -> np.ndarray:
    """Brightness over the image, (H, W, 1): a level, a slope, folds and dirt; infrared lamps light the middle."""
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    level, down, across = rng.uniform(-0.25, 0.2), *rng.uniform(-0.15, 0.15, 2)
    coarse = Image.fromarray(rng.uniform(-0.12, 0.12, (16, 8)).astype(np.float32))
    folds = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    light = 1 + hardness * (level + down * y + across * x + folds)
    if infrared:
        light = light * (1.15 - 0.4 * (x**2 + 0.6 * y**2))
    return light[..., None].astype(np.float32)


def _blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255
    return blurred.reshape(picture.shape)
