"""Rectangles inside images, drawn as random erasing draws them (Zhong et al., AAAI 2020): by area and aspect."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mpanet_pl.data.randomness import integer_below, normals_at


class Boxes(NamedTuple):
    """One in each image, all (B,); nothing where the height is 0."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor

    def mask(self, height: int, width: int) -> Tensor:
        """(B, H, W, 1) bool."""
        rows = torch.arange(height, device=self.top.device)
        columns = torch.arange(width, device=self.top.device)
        in_rows = within(rows, self.top[:, None], self.height[:, None])  # (B, H)
        in_columns = within(columns, self.left[:, None], self.width[:, None])  # (B, W)
        return (in_rows[:, :, None] & in_columns[:, None, :])[..., None]

    def fill_(self, pixels: Tensor, value: tuple[float, float, float]) -> Tensor:
        """In place, in (B, H, W, 3)."""
        colour = torch.tensor(value, dtype=pixels.dtype).to(pixels.device, non_blocking=True)  # waits for no GPU
        if pixels.device.type != "cpu":
            return pixels.copy_(torch.where(self.mask(*pixels.shape[1:3]), colour, pixels))
        for image, (top, left, height, width) in zip(pixels, torch.stack(self, 1).tolist(), strict=True):
            image[top : top + height, left : left + width] = colour
        return pixels

    def fill_with_noise_(self, pixels: Tensor, keys: Tensor, purpose: int) -> Tensor:
        """In place, in (B, H, W, 3): each number of a box by a standard normal one of its own."""
        places = torch.arange(pixels[0].numel(), device=pixels.device).view(pixels.shape[1:])
        if pixels.device.type != "cpu":
            noise = normals_at(keys, places.flatten(), purpose).view(pixels.shape).to(pixels.dtype)
            return pixels.copy_(torch.where(self.mask(*pixels.shape[1:3]), noise, pixels))
        boxes = torch.stack(self, 1).tolist()
        for image, key, (top, left, height, width) in zip(pixels, keys[:, None], boxes, strict=True):
            box = image[top : top + height, left : left + width]
            inside = places[top : top + height, left : left + width]
            box.copy_(normals_at(key, inside.flatten(), purpose).view(box.shape))
        return pixels


@dataclass(frozen=True)
class Law:
    """How boxes are drawn: `area` in shares of the image, `aspect` (height over width), each (least, most), until one
    of the tries lies inside the image."""

    area: tuple[float, float]
    aspect: tuple[float, float]
    tries: int
    by_logarithm: bool  # whether the aspect's logarithm is uniform, or the aspect

    def one(self, drawn: Tensor, height: int, width: int) -> Boxes:
        """Of uniform numbers (B, 2 * tries + 2) the first box that fits, if any; B single tries of (B, 4)."""
        top, left = drawn[:, :2].unbind(1)
        areas, aspects = drawn[:, 2:].chunk(2, dim=1)
        heights, widths = self._sizes(areas, aspects, height, width)
        first = (heights > 0).long().argmax(1, keepdim=True)
        heights, widths = heights.gather(1, first)[:, 0], widths.gather(1, first)[:, 0]
        return Boxes(integer_below(top, height - heights + 1), integer_below(left, width - widths + 1), heights, widths)

    def _sizes(self, areas: Tensor, aspects: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        pixels = height * width * _spread(areas, *self.area)
        if self.by_logarithm:
            aspects = torch.exp(_spread(aspects, *map(math.log, self.aspect)))
        else:
            aspects = _spread(aspects, *self.aspect)
        heights, widths = torch.sqrt(pixels * aspects).round().long(), torch.sqrt(pixels / aspects).round().long()
        fits = (heights < height) & (widths < width)
        return heights * fits, widths * fits


RELEASED = Law((0.02, 0.4), (0.3, 1 / 0.3), tries=100, by_logarithm=False)  # CAJ's and RLE's


def within(position: Tensor, start: Tensor | int, length: Tensor | int) -> Tensor:
    return (position >= start) & (position < start + length)


def _spread(uniform: Tensor, least: float, most: float) -> Tensor:
    return least + uniform * (most - least)
