"""Corruptions of test images (Hendrycks and Dietterich, ICLR 2019), drawn as SYSU-MM01-C and RegDB-C draw them.

An image x in [0, 1] is corrupted after the resize, clipped to [0, 1], and truncated to 8 bits. These are the published
20, written anew: not equal to the release bit by bit, and frost is drawn where the release has photographs. An infrared
image is corrupted as ML-MDA does: its noise is one for all channels, it stays grey, and `saturate` leaves it as it is.
An image's corruption depends on its path, the seed and nothing else.
"""

import hashlib
import io
import os
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter, map_coordinates
from torch import Tensor

from mpanet_pl.data.blurs import Corruption, Pixels, blurred, enlarged, streaked, to_bytes
from mpanet_pl.data.randomness import image_keys, uniforms
from mpanet_pl.data.weather import fog, frost, rain, snow, spatter
from mpanet_pl.errors import UserError
from mpanet_pl.system.ranges import checked, number

ALL = "all"
CORRUPTING = 12  # purpose of its draws in training, beside those of augmentations
Side = Literal["visible", "infrared", "both"]
Severity = Annotated[int, number(1, 5)]


def gaussian_noise(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    return x + rng.normal(0, (0.08, 0.12, 0.18, 0.26, 0.38)[severity], x.shape)


def shot_noise(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    photons = (60, 25, 12, 5, 3)[severity]
    return rng.poisson(x * photons) / photons


def impulse_noise(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    share, drawn = (0.03, 0.06, 0.09, 0.17, 0.27)[severity], rng.random(x.shape)
    return np.where(drawn < share / 2, 0.0, np.where(drawn < share, 1.0, x))


def speckle_noise(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    return x + x * rng.normal(0, (0.15, 0.2, 0.35, 0.45, 0.6)[severity], x.shape)


def gaussian_blur(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    return blurred(x, (1, 2, 3, 4, 6)[severity])


def defocus_blur(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    radius, sigma = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity]
    reach = max(8, radius)
    grid = np.arange(-reach, reach + 1)
    disc = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(float)
    disc = gaussian_filter(disc / disc.sum(), sigma, truncate=(1 if radius <= 8 else 2) / sigma)  # 3 × 3, or 5 × 5
    return convolve(x, disc[..., None], mode="mirror")


def glass_blur(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity]
    pixels = np.floor(blurred(x, sigma) * 255) / 255
    height, width = x.shape[:2]
    for _ in range(rounds):
        moves = rng.integers(-reach, reach, (height, width, 2)).tolist()
        for row in range(height - reach, reach, -1):
            for column in range(width - reach, reach, -1):
                right, down = moves[row][column]
                pixels[row, column] = pixels[row + down, column + right]
    return blurred(pixels, sigma)


def motion_blur(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity]
    return streaked(x, radius, sigma, rng.uniform(-45, 45))


def zoom_blur(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    step, count = ((0.01, 12), (0.01, 16), (0.02, 11), (0.02, 13), (0.03, 11))[severity]
    return (x + sum(enlarged(x, factor) for factor in 1 + step * np.arange(count))) / (count + 1)


def brightness(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    value = x.max(2, keepdims=True)
    brighter = np.clip(value + (0.1, 0.2, 0.3, 0.4, 0.5)[severity], 0, 1)
    return np.where(value > 0, x / np.maximum(value, 1e-12), 1.0) * brighter  # hue and saturation stay; black is grey


def contrast(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    mean = x.mean((0, 1), keepdims=True)
    return (x - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[severity] + mean


def saturate(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    factor, more = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity]
    value, least = x.max(2, keepdims=True), x.min(2, keepdims=True)
    spread = value - least
    saturation = np.where(value > 0, spread / np.maximum(value, 1e-12), 0)
    wanted = np.clip(saturation * factor + more, 0, 1)
    red = np.zeros_like(x)
    red[..., 1:] = 1.0  # what has no hue has hue 0, which is red
    depth = np.where(spread > 0, (value - x) / np.maximum(spread, 1e-12), red)
    return value - value * wanted * depth


def elastic_transform(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    height, width = x.shape[:2]
    sigma = 0.01 * height, 0.01 * width
    strength = (12.5, 16.25, 21.25, 25, 30)[severity]
    moves = rng.uniform(-0.005 * height, 0.005 * height, (2, height, width))
    down, right = (gaussian_filter(move, sigma, truncate=3) * strength for move in moves)
    rows, columns = np.mgrid[:height, :width]
    places = [rows + down, columns + right]
    return np.stack([map_coordinates(x[..., k], places, order=1, mode="reflect") for k in range(3)], axis=2)


def pixelate(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    height, width = x.shape[:2]
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity]
    small = Image.fromarray(to_bytes(x)).resize(
        (max(1, int(width * share)), max(1, int(height * share))), Image.Resampling.BOX
    )
    return np.asarray(small.resize((width, height), Image.Resampling.NEAREST)) / 255


def jpeg_compression(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(to_bytes(x)).save(file, "JPEG", quality=(25, 18, 15, 10, 7)[severity])
    return np.asarray(Image.open(file).convert("RGB")) / 255


NOISES: tuple[Corruption, ...] = (gaussian_noise, shot_noise, impulse_noise, speckle_noise)
BLURS: tuple[Corruption, ...] = (gaussian_blur, defocus_blur, glass_blur, motion_blur, zoom_blur)
WEATHER: tuple[Corruption, ...] = (snow, frost, fog, spatter, rain)
OTHERS: tuple[Corruption, ...] = (brightness, contrast, saturate, elastic_transform, pixelate, jpeg_compression)
CORRUPTIONS = {corruption.__name__: corruption for corruption in (*NOISES, *BLURS, *WEATHER, *OTHERS)}


@checked
class Corrupt:
    """Corrupts images by their paths: `Corrupt("all")(pixels, path, infrared)`.

    name: a corruption, or `all`: one of them for each image, uniformly.
    severity: 1 to 5; None: one for each image, uniformly, as published.
    of: whose images: `visible` (published), `infrared` or `both`. An infrared image has its three channels equal again.
    seed: another is another draw.
    """

    def __init__(
        self, name: str = ALL, *, severity: Severity | None = None, of: Side = "visible", seed: int = 1
    ) -> None:
        if name != ALL and name not in CORRUPTIONS:
            raise UserError(f"corrupt is all or one of {', '.join(CORRUPTIONS)}, got {name!r}.")
        self.name, self.severity, self.of, self.seed = name, severity, of, seed

    def __str__(self) -> str:
        severity = "uniform over 1 to 5" if self.severity is None else self.severity
        kinds = f"uniform over {len(CORRUPTIONS)}" if self.name == ALL else self.name
        return f"corrupted {self.of} images: {kinds}, severity {severity}, seed {self.seed}, this package's own code"

    def __call__(self, pixels: NDArray[np.uint8], path: str, infrared: bool) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) -> the same, corrupted where this image is to be."""
        if self.of != "both" and infrared != (self.of == "infrared"):
            return pixels
        rng = np.random.default_rng([*hashlib.sha256(os.fsencode(path)).digest()[:8], self.seed])
        return corrupted(pixels, self.name, self.severity, infrared, rng)


class CorruptTraining:
    """Corruptions as an augmentation: a share of the training images of either modality, drawn anew in each epoch.

    Whoever trains with it has seen what `corrupt` tests with: scores there are then not of the unknown.
    """

    def __init__(self, share: float, seed: int) -> None:
        self.share, self.seed = share, seed

    def __str__(self) -> str:
        kinds = f"one of the {len(CORRUPTIONS)} corruptions that corrupt=all tests with"
        return f"{self.share:.0%} of the training images had {kinds}"

    def __call__(self, images: Tensor, index: Tensor, infrared: Tensor, occurrence: Tensor, epoch: int) -> Tensor:
        """uint8 images (B, 3, H, W) -> the same, some of them corrupted in place."""
        keys = image_keys(self.seed, epoch, index, occurrence)
        chosen = (uniforms(keys, 1, CORRUPTING)[:, 0] < self.share).nonzero().flatten().tolist()
        for row in chosen:
            rng = np.random.default_rng(int(keys[row]) % 2**63)
            picture = images[row].permute(1, 2, 0).numpy()
            images[row] = torch.from_numpy(corrupted(picture, ALL, None, bool(infrared[row]), rng)).permute(2, 0, 1)
        return images


def corrupted(
    pixels: NDArray[np.uint8], name: str, severity: int | None, infrared: bool, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) -> the same; a corruption of `all` and a severity of 1 to 5 are drawn where none is named."""
    kind, drawn = int(rng.integers(len(CORRUPTIONS))), int(rng.integers(5))
    chosen = list(CORRUPTIONS.values())[kind] if name == ALL else CORRUPTIONS[name]
    if infrared and chosen is saturate:
        return pixels
    x = pixels / 255
    found = chosen(x[..., :1] if infrared and chosen in NOISES else x, drawn if severity is None else severity - 1, rng)
    return to_bytes(np.broadcast_to(found.mean(2, keepdims=True), x.shape) if infrared else found)
