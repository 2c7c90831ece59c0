"""What corruptions share: pixels, blurs, enlarging, fractal noise."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

Pixels = NDArray[np.float64]  # (H, W, channels), or (H, W), in [0, 1]
Corruption = Callable[[Pixels, int, np.random.Generator], Pixels]  # severity 0 … 4


def to_bytes(x: Pixels) -> NDArray[np.uint8]:
    """Clipped and truncated; what was a byte stays that byte."""
    return (x.clip(0, 1) * 255 + 1e-6).astype(np.uint8)


def blurred(x: Pixels, sigma: float) -> Pixels:
    """Gaussian, over rows and columns."""
    return gaussian_filter(x, (sigma, sigma, 0)[: x.ndim], mode="nearest")


def streaked(x: Pixels, radius: int, sigma: float, degrees: float) -> Pixels:
    """Blurred in one direction, as by a camera that moves: half a Gaussian of 2·radius + 1 steps, edges repeated."""
    angle = np.deg2rad(degrees)
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    result, (height, width) = np.zeros_like(x), x.shape[:2]
    for step, weight in enumerate(weights):
        down, right = (-int(np.ceil(step * part - 0.5)) for part in (np.sin(angle), np.cos(angle)))
        if abs(down) >= height or abs(right) >= width:
            break
        rows, columns = np.arange(height) - down, np.arange(width) - right
        result += weight * x[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]
    return result


def enlarged(x: Pixels, factor: float) -> Pixels:
    """The middle of an image, as large as the whole."""
    height, width = x.shape[:2]
    rows, columns = (int(np.ceil(size / factor)) for size in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    larger = zoom(x[top : top + rows, left : left + columns], (factor, factor, 1)[: x.ndim], order=1)
    up, aside = (larger.shape[0] - height) // 2, (larger.shape[1] - width) // 2
    return larger[up : up + height, aside : aside + width]


def plasma(height: int, width: int, decay: float, rng: np.random.Generator) -> Pixels:
    """(H, W) in [0, 1], part of a diamond-square map that is a torus."""
    size = 1 << int(np.ceil(np.log2(max(height, width))))
    heights, step, wobble = np.zeros((size, size)), size, 100.0
    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        total = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = _wobbled(total + np.roll(total, -1, 1), wobble, rng)
        middles = heights[half::step, half::step]
        beside, above = corners + np.roll(corners, -1, 1), corners + np.roll(corners, -1, 0)
        heights[::step, half::step] = _wobbled(beside + middles + np.roll(middles, 1, 0), wobble, rng)
        heights[half::step, ::step] = _wobbled(above + middles + np.roll(middles, 1, 1), wobble, rng)
        step, wobble = half, wobble / decay
    heights -= heights.min()
    return (heights / max(heights.max(), 1e-12))[:height, :width]


def _wobbled(total: Pixels, wobble: float, rng: np.random.Generator) -> Pixels:
    return total / 4 + wobble * rng.uniform(-wobble, wobble, total.shape)
