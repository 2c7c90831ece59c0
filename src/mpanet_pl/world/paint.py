"""From inks to pixels: colours or reflectances, light, the camera's response, blur and noise."""

import numpy as np
from PIL import Image, ImageFilter

from mpanet_pl.world.canvas import SUPERSAMPLING
from mpanet_pl.world.parts import INKS, MATERIALS, SHADED, SHADES, Part, ink
from mpanet_pl.world.people import Person
from mpanet_pl.world.places import Place

PARTS_OF_INK = [Part(number // len(SHADES)) for number in range(INKS)]
MATERIAL_OF_INK = np.array([MATERIALS.get(part, 0) for part in PARTS_OF_INK])
SHADE_OF_INK = np.array([SHADES[number % len(SHADES)] for number in range(INKS)])


def paint(inks: np.ndarray, person: Person, place: Place, hardness: float, rng: np.random.Generator) -> np.ndarray:
    """What this camera makes of the inks: (H, W, 3) uint8; three equal channels in infrared."""
    figure, cover = _flat_figure(inks, person, place)
    height, width, _ = cover.shape
    behind = _window(place.background, height, width, rng)
    picture = (figure + (1 - cover) * behind) * _light(rng, height, width, place.infrared, hardness)
    picture = np.clip(picture, 0, 1) ** place.gamma * place.gain
    picture = 0.5 + (picture - 0.5) * place.contrast * rng.uniform(1 - 0.2 * hardness, 1 + 0.1 * hardness)
    picture = _blurred(picture, 0.8 * hardness * rng.uniform() ** 2)
    noise = place.noise * hardness * rng.uniform(0.5, 1.5)
    picture = picture + noise * rng.standard_normal(picture.shape, np.float32)
    pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2) if place.infrared else pixels


def _flat_figure(inks: np.ndarray, person: Person, place: Place) -> tuple[np.ndarray, np.ndarray]:
    """The figure's flat colours on black (H, W, C) and how much of each pixel it and its shadow cover (H, W, 1)."""
    materials = person.infrared if place.infrared else person.visible
    palette = np.zeros((INKS, 4), np.float32)
    palette[:, :3] = materials[MATERIAL_OF_INK] * SHADE_OF_INK[:, None]
    palette[: ink(Part.SKIN), :3] = place.occluder
    palette[: ink(Part.OCCLUDER), :3] = 0
    palette[ink(Part.OCCLUDER) :, 3] = 1
    palette[ink(Part.BACKGROUND, SHADED), 3] = 0.3
    bands = (np.clip(palette, 0, 1) * 255).astype(np.uint8).view(np.uint32)[:, 0].take(inks)  # all four at once
    small = Image.frombuffer("RGBX", inks.shape[::-1], bands.tobytes(), "raw", "RGBX", 0, 1).reduce(SUPERSAMPLING)
    pixels = np.asarray(small, np.float32) / 255
    return pixels[..., : len(place.gain)], pixels[..., 3:]


def _window(background: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Where in the camera's picture this image was cut out."""
    top, left = rng.integers(background.shape[0] - height + 1), rng.integers(background.shape[1] - width + 1)
    return background[top : top + height, left : left + width]


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
