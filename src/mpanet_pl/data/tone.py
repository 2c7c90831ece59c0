"""The tone curve: an image becomes grey by random weights of its channels, and its grey passes a random curve.

A person's tones are then no longer what tells people apart, within a modality or across. The curve is linear between
`knots` random tones at equal distances, not monotone.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mpanet_pl.data.randomness import uniforms

PURPOSE = 1  # of the draws
ONE = 1 << 16  # weights count 2^-16, so that a sum is the same on every device
IN_A_CORE = 1 << 14  # pixels at a time on a CPU, whose caches hold them


class Tones(NamedTuple):
    changed: Tensor  # (B,) bool
    weights: Tensor  # (B, 3) int64, of the channels, together ONE
    curves: Tensor  # (B, 256) uint8


def draw(keys: Tensor, probability: float, knots: int) -> Tones:
    drawn = uniforms(keys, 4 + knots, PURPOSE)
    weights = -torch.log1p(-drawn[:, 1:4])  # exponential; a uniform number may be 0, never 1
    share = (weights * ONE / weights.sum(1, keepdim=True).clamp(min=1e-300)).long()[:, :2]
    last = ONE - share.sum(1, keepdim=True)
    return Tones(drawn[:, 0] < probability, torch.cat((share, last), 1), _curves(drawn[:, 4:] * 255))


def apply(pixels: Tensor, tones: Tones) -> Tensor:
    """uint8 (B, H, W, 3) -> the same, with three equal channels where an image is changed."""
    batch, height, width, _ = pixels.shape
    at_once = max(1, IN_A_CORE // (height * width)) if pixels.device.type == "cpu" else max(1, batch)
    parts = zip(*(column.split(at_once) for column in (pixels, *tones)), strict=True)
    return torch.cat([_toned(part, Tones(*rest)) for part, *rest in parts])


def _toned(pixels: Tensor, tones: Tones) -> Tensor:
    red, green, blue = (weight[:, None, None] for weight in tones.weights.float().unbind(1))
    r, g, b = pixels.unbind(3)
    grey = (r * red + g * green + b * blue + ONE // 2) / ONE  # (B, H, W); below 2^24 float32 counts exactly
    tone = tones.curves.gather(1, grey.flatten(1).long()).view_as(grey)
    return torch.where(tones.changed[:, None, None, None], tone[..., None], pixels)


def _curves(knots: Tensor) -> Tensor:
    """Tones (B, K) at equal distances over 0 … 255 -> the whole curves (B, 256) uint8."""
    place = torch.arange(256, device=knots.device, dtype=torch.float64) * (knots.shape[1] - 1) / 255
    left = place.long().clamp(max=knots.shape[1] - 2)
    part = place - left
    return (knots[:, left] * (1 - part) + knots[:, left + 1] * part).round().byte()
