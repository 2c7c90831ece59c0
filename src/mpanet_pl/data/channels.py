"""CAJ's channel augmentation (Ye et al., ICCV 2021): what an image's three channels become, after normalisation.

An image shows one of its channels three times, or its grey. The released pipeline gives a step every visible image
once as it is and once exchanged, and augments infrared images by channel, too.
"""

import torch
from torch import Tensor

from mpanet_pl.data.randomness import integer_below, uniforms

PURPOSE = 2  # of the draws
GREY = 3  # beside the channels 0, 1, 2
UNCHANGED = -1
GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)
GREY_SHARE = 0.5  # of the infrared images that show no single channel


def draw(keys: Tensor, infrared: Tensor, view: int | None) -> Tensor:
    """Which channel an image shows, (B,): 0 to 2, `GREY` or `UNCHANGED`.

    Infrared: a quarter each of the three channels, an eighth grey, an eighth unchanged. Visible: unchanged in view 0,
    one channel in the others; where there is but one view (None), either by halves.
    """
    which, grey, half = uniforms(keys, 3, PURPOSE).unbind(1)
    of_four = integer_below(which, 4)
    thermal = torch.where((of_four == 3) & (grey >= GREY_SHARE), UNCHANGED, of_four)
    exchanged = half < 0.5 if view is None else torch.full_like(infrared, view > 0)
    visible = torch.where(exchanged, integer_below(which, 3), UNCHANGED)
    return torch.where(infrared, thermal, visible)


def show(pixels: Tensor, channel: Tensor) -> Tensor:
    """(B, H, W, 3) -> the same, each image showing its `channel` (B,)."""
    red, green, blue = GREY_WEIGHTS
    grey = red * pixels[..., 0] + green * pixels[..., 1] + blue * pixels[..., 2]  # (B, H, W)
    channel = channel[:, None, None, None]
    one = torch.take_along_dim(pixels, channel.clamp(0, 2), dim=3)  # (B, H, W, 1)
    return torch.where(channel == UNCHANGED, pixels, torch.where(channel == GREY, grey[..., None], one))
