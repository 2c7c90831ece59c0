"""Random transforms of a whole uint8 batch on its device, each image by draws of its own.

The recipe's: horizontal flip, pad with grey and crop, scale, normalise, random erasing (Zhong et al., AAAI 2020), in
the distributions of torchvision's per-image transforms. Off by default: random grayscale and channel exchange.
They are a hash of (seed, epoch, its row), so neither workers, ranks nor a resumed run change it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.data.randomness import uniforms
from mpanet_pl.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
PUBLISHED_COLOUR_SHARE = 0.5
ERASE_TRIES = 10


class Draws(NamedTuple):
    """What happens to each image, decided; all (B,)."""

    flip: Tensor  # bool
    top: Tensor  # the crop's corner in the padded image
    left: Tensor
    erase_top: Tensor  # the erased rectangle; nothing where its height is 0
    erase_left: Tensor
    erase_height: Tensor
    erase_width: Tensor
    grayscale: Tensor  # bool
    channel: Tensor  # which one stands for all three, or -1


@dataclass(frozen=True)
class Augmentation:
    """The recipe's augmentation: `augmentation(images, index, infrared, seed=1, epoch=0)`.

    `grayscale` and `channel_exchange` are probabilities that a visible image turns to its luminance, or has its three
    channels replaced by one of them; `True` stands for the published share, a half: Ye et al. train on every visible
    image once as it is and once so changed (grayscale: HAT, TIFS 2020; exchange: CAJ, ICCV 2021). They pass both to the
    network at once, here an epoch sees one of the two.
    """

    flip: float = 0.5
    pad: int = 10
    fill: int = 127
    erase: float = 0.5
    erase_area: tuple[float, float] = (0.02, 0.33)
    erase_ratio: tuple[float, float] = (0.3, 3.3)
    grayscale: bool | float = False
    channel_exchange: bool | float = False

    def __post_init__(self) -> None:
        for name in ("flip", "erase", "grayscale", "channel_exchange"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"augment.{name} is a probability between 0 and 1, got {getattr(self, name)}")
        if self.pad < 0 or not 0 <= self.fill <= 255:
            raise UserError(
                f"augment.pad is at least 0 and augment.fill within 0 to 255, got {self.pad} and {self.fill}"
            )
        if not (0 <= self.erase_area[0] <= self.erase_area[1] <= 1 and 0 < self.erase_ratio[0] <= self.erase_ratio[1]):
            raise UserError(
                "augment.erase_area and augment.erase_ratio are (least, most), the area within 0 to 1, "
                f"got {self.erase_area} and {self.erase_ratio}"
            )

    def __call__(self, images: Tensor, index: Tensor, infrared: Tensor, *, seed: int, epoch: int) -> Tensor:
        """uint8 (B, 3, H, W), rows and modality (B,) -> normalised float32 (B, 3, H, W), channels last in memory."""
        draws = self.draw(index, infrared, images.shape[2], images.shape[3], seed=seed, epoch=epoch)
        return self.apply(images, draws)

    def draw(self, index: Tensor, infrared: Tensor, height: int, width: int, *, seed: int, epoch: int) -> Draws:
        drawn = uniforms(seed, epoch, index, 9 + 2 * ERASE_TRIES)  # (B, 29)
        flip, top, left, erase, erase_top, erase_left, grayscale, exchange, channel = drawn[:, :9].unbind(1)
        areas, ratios = drawn[:, 9:].chunk(2, dim=1)  # (B, tries)
        erase_height, erase_width = self._first_fitting_rectangle(areas, ratios, height, width)
        erased = erase < self.erase
        return Draws(
            flip=flip < self.flip,
            top=_integer_below(top, 2 * self.pad + 1),
            left=_integer_below(left, 2 * self.pad + 1),
            erase_top=_integer_below(erase_top, height - erase_height + 1),
            erase_left=_integer_below(erase_left, width - erase_width + 1),
            erase_height=erase_height * erased,
            erase_width=erase_width * erased,
            grayscale=~infrared & (grayscale < _share(self.grayscale)),
            channel=torch.where(~infrared & (exchange < _share(self.channel_exchange)), _integer_below(channel, 3), -1),
        )

    def apply(self, images: Tensor, draws: Draws) -> Tensor:
        pixels = images.permute(0, 2, 3, 1).contiguous()  # (B, H, W, 3)
        transform = self._by_slicing if pixels.device.type == "cpu" else self._by_gathering
        return transform(pixels, draws).permute(0, 3, 1, 2)

    def _by_slicing(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Image by image, which stays in a core's cache: many times the speed of gathering on a CPU."""
        _, height, width, _ = pixels.shape
        pad = self.pad
        canvas = pixels.new_full((height + 2 * pad, width + 2 * pad, 3), self.fill)
        inner = canvas[pad : pad + height, pad : pad + width]
        output = _empty_like(pixels)
        for source, target, decisions in zip(pixels, output, torch.stack(draws, dim=1).tolist(), strict=True):
            draw = Draws(*decisions)
            if draw.grayscale:
                source = _luminance(source).expand_as(source)
            if draw.channel >= 0:
                source = source[..., draw.channel, None]
            inner.copy_(source.flip(1) if draw.flip else source)
            normalise_(target.copy_(canvas[draw.top : draw.top + height, draw.left : draw.left + width]))
            erase_bottom, erase_right = draw.erase_top + draw.erase_height, draw.erase_left + draw.erase_width
            target[draw.erase_top : erase_bottom, draw.erase_left : erase_right] = 0
        return output

    def _by_gathering(self, pixels: Tensor, draws: Draws) -> Tensor:
        """All images at once, without a loop: the way on an accelerator."""
        batch, height, width, _ = pixels.shape
        y = torch.arange(height, device=pixels.device)
        x = torch.arange(width, device=pixels.device)
        rows = y + draws.top[:, None] - self.pad  # (B, H) where an output row comes from
        columns = x + draws.left[:, None] - self.pad  # (B, W)
        inside = _within(rows, 0, height)[:, :, None] & _within(columns, 0, width)[:, None, :]  # (B, H, W)
        columns = torch.where(draws.flip[:, None], width - 1 - columns, columns)
        image = torch.arange(batch, device=pixels.device)[:, None, None]
        cropped = self._recoloured(pixels, draws)[
            image, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
        ]
        output = normalise_(cropped.masked_fill_(~inside[..., None], self.fill).float())
        erase_rows = _within(y, draws.erase_top[:, None], draws.erase_height[:, None])  # (B, H)
        erase_columns = _within(x, draws.erase_left[:, None], draws.erase_width[:, None])  # (B, W)
        return output.masked_fill_((erase_rows[:, :, None] & erase_columns[:, None, :])[..., None], 0)

    def _recoloured(self, pixels: Tensor, draws: Draws) -> Tensor:
        if self.grayscale:
            pixels = torch.where(draws.grayscale[:, None, None, None], _luminance(pixels), pixels)
        if self.channel_exchange:
            channel = draws.channel[:, None, None, None]
            pixels = torch.where(channel >= 0, torch.take_along_dim(pixels, channel.clamp(min=0), dim=3), pixels)
        return pixels

    def _first_fitting_rectangle(self, areas: Tensor, ratios: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Height and width (B,) of the first of the tries (B, tries) that lies inside the image; 0 where none does."""
        least, most = self.erase_area
        flattest, tallest = (math.log(ratio) for ratio in self.erase_ratio)
        area = height * width * (least + areas * (most - least))
        ratio = torch.exp(flattest + ratios * (tallest - flattest))
        heights = torch.sqrt(area * ratio).round().long()
        widths = torch.sqrt(area / ratio).round().long()
        fits = (heights < height) & (widths < width)
        first = fits.long().argmax(1, keepdim=True)
        return (heights * fits).gather(1, first)[:, 0], (widths * fits).gather(1, first)[:, 0]


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> float32, scaled to [0, 1] and normalised by ImageNet's statistics, channels last."""
    pixels = images.permute(0, 2, 3, 1).contiguous()  # (B, H, W, 3)
    output = _empty_like(pixels)
    at_once = 1 if pixels.device.type == "cpu" else max(len(pixels), 1)  # one image stays in a core's cache
    for source, target in zip(pixels.split(at_once), output.split(at_once), strict=True):
        normalise_(target.copy_(source))
    return output.permute(0, 3, 1, 2)


def normalise_(pixels: Tensor) -> Tensor:
    """The same in place, on float32 (…, H, W, 3) of 0 to 255: torchvision's operations in its order, bit for bit."""
    *_, width, channels = pixels.shape
    rows = pixels.view(-1, width * channels)  # long rows: a loop over three channels would not vectorise
    levels, mean, std = _statistics(width, pixels.device)
    rows.div_(levels).sub_(mean).div_(std)
    return pixels


def _empty_like(pixels: Tensor) -> Tensor:
    """Room for the float32 of `pixels`; on the CPU numpy's, which asks for huge pages: touching it costs a third."""
    if pixels.device.type == "cpu":
        return torch.from_numpy(np.empty(pixels.shape, np.float32))
    return torch.empty(pixels.shape, device=pixels.device)


@functools.cache
def _statistics(width: int, device: torch.device) -> Tensor:
    """Levels, mean and standard deviation of a row of pixels, (3, W * 3).

    A tensor of levels, because dividing by a number is a multiplication on some devices.
    """
    return torch.tensor([(255.0,) * 3, IMAGENET_MEAN, IMAGENET_STD], device=device).repeat(1, width)


def _integer_below(uniform: Tensor, bound: Tensor | int) -> Tensor:
    return (uniform * bound).long()  # uniform in 0 … bound - 1


def _within(position: Tensor, start: Tensor | int, length: Tensor | int) -> Tensor:
    return (position >= start) & (position < start + length)


def _luminance(pixels: Tensor) -> Tensor:
    """ITU-R 601 luma (…, H, W, 1) of uint8 (…, H, W, 3), as Pillow rounds it."""
    red, green, blue = pixels.int().split(1, dim=-1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).byte()


def _share(probability: bool | float) -> float:
    return PUBLISHED_COLOUR_SHARE if probability is True else float(probability)
