"""Random linear enhancement (RLE, NeurIPS 2024), on pixels of 0 to 1: moderate mixes channels, radical scales boxes."""

from collections.abc import Callable

import torch
from torch import Tensor

from mpanet_pl.data.boxes import RELEASED, Boxes
from mpanet_pl.data.randomness import betas, uniforms

PURPOSE = 16  # of the draws, and what follows it: two more for each box
MODERATE, RADICAL = 0.5, 0.5  # probabilities, each drawn on its own
MODERATE_BETA, RADICAL_BETA = 0.3, 0.4
LEAST = 0.1  # radical ends once any value has become less than this share of itself

Draw = Callable[[Tensor, int], tuple[Boxes, Tensor]]  # of these images the box of a try, and the maxima it gets (n, 3)


def enhance(pixels: Tensor, keys: Tensor) -> Tensor:
    """(B, H, W, 3) of 0 to 1 -> the same, as published."""
    gates = uniforms(keys, 2, PURPOSE)
    mixed = mix(pixels, betas(keys, 3, MODERATE_BETA, PURPOSE + 1))
    pixels = torch.where((gates[:, 0] < MODERATE)[:, None, None, None], mixed, pixels)
    _, height, width, _ = pixels.shape

    def draw(rows: Tensor, number: int) -> tuple[Boxes, Tensor]:
        purpose = PURPOSE + 2 + 2 * number
        maxima = betas(keys[rows], 3, RADICAL_BETA, purpose + 1)
        return RELEASED.one(uniforms(keys[rows], 4, purpose), height, width), maxima

    return scale_boxes(pixels, (gates[:, 1] < RADICAL).nonzero()[:, 0], draw)


def mix(pixels: Tensor, weights: Tensor) -> Tensor:
    """Moderate: every channel becomes the mean of all, weighted by `weights` (B, 3)."""
    share = (weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)).to(pixels.dtype)
    return (pixels * share[:, None, None]).sum(3, keepdim=True).expand_as(pixels)


def scale_boxes(pixels: Tensor, rows: Tensor, draw: Draw) -> Tensor:
    """Radical, of the images `rows`: box after box is scaled so that each channel's maximum becomes what is drawn.

    An image is done once any of its values is less than `LEAST` of what it was. After each box the images that are
    left, about two of five, are gathered anew: a look at the device, a few in a batch. A channel that is black in a box
    has no maximum to scale (the release divides 0 by 0) and stays.
    """
    pixels, kept = pixels.clone(), torch.ones_like(pixels, dtype=torch.float32)
    for number in range(RELEASED.tries):
        if not len(rows):
            break
        boxes, maxima = draw(rows, number)
        inside = boxes.mask(*pixels.shape[1:3])  # (n, H, W, 1)
        now = pixels[rows]
        largest = (now * inside).amax((1, 2))  # (n, 3)
        factor = torch.where(largest > 0, maxima.to(now.dtype) / largest, 1)[:, None, None]
        factor = torch.where(inside, factor, 1)  # (n, H, W, 3)
        left = kept[rows] * factor.float()
        pixels[rows], kept[rows] = now * factor, left
        rows = rows[left.amin((1, 2, 3)) >= LEAST]
    return pixels
