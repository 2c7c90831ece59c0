"""Corruptions that stand between a camera and a person: fog, snow, frost, spatter, rain.

Constants and rules are those of SYSU-MM01-C's release; the pictures of frost, which are photographs there, are drawn.
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import convolve, distance_transform_edt, label, maximum, sobel, uniform_filter

from mpanet_pl.data.blurs import Pixels, blurred, enlarged, plasma, streaked, to_bytes

LUMINANCE = np.array([0.299, 0.587, 0.114])
WATER, MUD = np.array([175, 238, 238]) / 255, np.array([63, 42, 20]) / 255
RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])  # lit from one corner
FAR = 20  # pixels from an edge, beyond which water is even


def fog(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    thickness, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[severity]
    brightest = x.max()
    layer = plasma(x.shape[0], x.shape[1], decay, rng)[..., None]
    return (x + thickness * layer) * brightest / (brightest + thickness)


def snow(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    mean, spread, factor, threshold, radius, sigma, mix = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity]
    flakes = enlarged(rng.normal(mean, spread, x.shape[:2]), factor)
    flakes = np.where(flakes < threshold, 0.0, flakes).clip(0, 1)
    flakes = np.round(streaked(flakes, radius, sigma, rng.uniform(-135, -45)) * 255)[..., None] / 255
    whitened = np.maximum(x, 1.5 * (x @ LUMINANCE)[..., None] + 0.5)
    return mix * x + (1 - mix) * whitened + flakes + flakes[::-1, ::-1]


def frost(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    kept, laid_over = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity]
    glass = frosted_glass(x.shape[0], x.shape[1], rng)
    return kept * x + laid_over * glass[..., None]


def frosted_glass(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """(H, W): bright veins, where a fractal map crosses its middle, over a hazy ground."""
    coarse, fine = (plasma(height, width, decay, rng) for decay in (1.8, 1.4))
    veins = (1 - np.abs(2 * coarse - 1)) ** 6 + (1 - np.abs(2 * fine - 1)) ** 3
    return (0.25 * fine + 0.6 * veins).clip(0, 1)


def spatter(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    mean, spread, sigma, threshold, strength, is_mud = (
        (0.65, 0.3, 4, 0.69, 0.6, False),
        (0.65, 0.3, 3, 0.68, 0.6, False),
        (0.65, 0.3, 2, 0.68, 0.5, False),
        (0.65, 0.3, 1, 0.65, 1.5, True),
        (0.67, 0.4, 1, 0.65, 1.5, True),
    )[severity]
    drops = blurred(rng.normal(mean, spread, x.shape[:2]), sigma)
    drops[drops < threshold] = 0
    if is_mud:
        covered = blurred((drops > threshold).astype(float), strength)
        covered[covered < 0.8] = 0
        return x * (1 - covered[..., None]) + covered[..., None] * MUD
    depth = drops * _relief(to_bytes(drops))
    return x + strength * (depth / max(depth.max(), 1e-12))[..., None] * WATER


def _relief(drops: np.ndarray) -> Pixels:
    """(H, W) in [0, 1]: how far the edges of drops are, evened out and lit from a corner."""
    edge = edges(drops)
    far = distance_transform_edt(~edge) if edge.any() else np.full(drops.shape, float(FAR))
    far = np.round(uniform_filter(np.minimum(far, FAR), 3, mode="mirror"))
    values, place, counts = np.unique(far, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts[0]
    even = (below / max(below[-1], 1))[place].reshape(far.shape) if len(values) > 1 else far / FAR
    return uniform_filter(convolve(even, RELIEF, mode="mirror").clip(0, 1), 3, mode="mirror")


def edges(picture: np.ndarray, low: float = 50, high: float = 150) -> np.ndarray:
    """(H, W) bool, the edges of an 8-bit picture (Canny, PAMI 1986): ridges of the gradient above `low` that touch one
    above `high`.

    >>> edges(np.repeat(np.array([[0, 0, 0, 200, 200, 200]]), 5, axis=0))[2].sum()
    np.int64(2)
    """
    down, right = (sobel(picture.astype(float), axis, mode="nearest") for axis in (0, 1))
    size = np.abs(down) + np.abs(right)
    around = np.pad(size, 1)
    sector = np.round(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4
    ridge = np.zeros(size.shape, dtype=bool)
    for number, (rows, columns) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        sides = [around[1 + s * rows :, 1 + s * columns :][: size.shape[0], : size.shape[1]] for s in (1, -1)]
        ridge |= (sector == number) & (size >= sides[0]) & (size >= sides[1])
    groups, count = label(ridge & (size > low), np.ones((3, 3)))
    strongest = np.array([0.0, *np.atleast_1d(maximum(size, groups, range(1, count + 1)))]) if count else np.zeros(1)
    return strongest[groups] > high


def rain(x: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    """Every drop falls ten pixels to the right, over 10 pixels (drizzle), 30 (heavy) or 60 (torrential)."""
    share, length = ((770, 10), (600, 30), (600, 30), (500, 60), (500, 60))[severity]
    height, width = x.shape[:2]
    picture = Image.fromarray(to_bytes(x))
    pen, slant = ImageDraw.Draw(picture), int(rng.uniform(-10, 10))  # which bounds where drops begin, and no more
    first = (0, max(width - slant, 0) + 1) if slant >= 0 else (slant, width + 1)
    for _ in range(height * width // share):
        left = int(rng.integers(*first))
        top = int(rng.integers(0, max(height - length, 0) + 1))
        pen.line((left, top, left + 10, top + length), fill=(200, 200, 200), width=1)
    wet = uniform_filter(np.asarray(picture) / 255, (severity + 3, severity + 3, 1), mode="mirror")
    return wet - (0.10, 0.15, 0.20, 0.25, 0.30)[severity]
