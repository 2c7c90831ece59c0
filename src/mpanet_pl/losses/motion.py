"""Images moved at random, and maps moved with them: mirrored, scaled and shifted.

A motion says for each image and axis (down, across) where the picture at x in [-1, 1] comes from: slope · x + shift.
"""

import torch
from torch import Tensor

SMALLEST, LARGEST = 0.8, 1.2  # of the scale
FARTHEST = 0.15  # shift, of the image's height or width


def draw_motions(count: int, device: torch.device) -> Tensor:
    """(count, 2, 2), axis by (slope, shift), from torch's own generator; half of them mirror."""
    scale, mirrored, *shift = torch.rand(4, count, device=device)
    slope = 1 / (SMALLEST + (LARGEST - SMALLEST) * scale)
    slopes = torch.stack([slope, torch.where(mirrored < 0.5, -slope, slope)], dim=1)
    shifts = 2 * FARTHEST * (2 * torch.stack(shift, dim=1) - 1)
    return torch.stack([slopes, shifts], dim=2)


def move(pictures: Tensor, motions: Tensor, *, continued: bool = False) -> Tensor:
    """Images or maps (B, C, h, w) by motions (B, 2, 2), bilinearly; from outside comes 0.

    Where they are `continued`, the nearest place comes from there: an edge that moved along would be a place to see.

    >>> mirror = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    >>> move(torch.tensor([[[[1.0, 2.0, 3.0]]]]), mirror)
    tensor([[[[3., 2., 1.]]]])
    """
    down, across = (_sources(size, motions[:, axis], continued) for axis, size in enumerate(pictures.shape[2:]))
    with torch.autocast(pictures.device.type, enabled=False):
        return down[:, None] @ pictures @ across[:, None].mT


def _sources(size: int, motions: Tensor, continued: bool) -> Tensor:
    """How much each place of one axis takes from each: (B, size, size)."""
    places = torch.arange(size, dtype=motions.dtype, device=motions.device)
    source = motions[:, :1] * ((2 * places + 1) / size - 1) + motions[:, 1:]  # (B, size) in [-1, 1]
    position = ((source + 1) * size - 1) / 2
    if continued:
        position = position.clamp(0, size - 1)
    return (1 - (position[:, :, None] - places).abs()).clamp(min=0)
