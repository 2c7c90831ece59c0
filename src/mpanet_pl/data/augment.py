"""Random transforms of a whole uint8 batch on its device, each image by draws of its own.

The recipe's: horizontal flip, pad with grey and crop, scale, normalise, random erasing (Zhong et al., AAAI 2020), in
the distributions of torchvision's per-image transforms. Off by default: random grayscale and channel exchange, a tone
curve (`tone.py`), CAJ's channels (`channels.py`), RLE (`enhance.py`).
They are a hash of (seed, epoch, row, occurrence, view), so neither workers, ranks nor a resumed run change it.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from mpanet_pl.data import channels, enhance, tone
from mpanet_pl.data.boxes import RELEASED, Boxes, Law, within
from mpanet_pl.data.normalisation import normalise as normalise
from mpanet_pl.data.normalisation import normalise_scaled, normalised, scaled
from mpanet_pl.data.randomness import image_keys, integer_below, uniforms
from mpanet_pl.errors import UserError
from mpanet_pl.system.ranges import Finite, Probability, Whole, checked, number

PUBLISHED_COLOUR_SHARE = 0.5
ERASE_TRIES = 10
ERASING, SINGLE, NOISE = 3, 4, 5  # purposes of draws, beside 0 of the others here, tone's, channels' and enhancement's
MIRROR = "mirror"
MEAN_COLOUR = (0.0, 0.0, 0.0)  # of normalised pixels
RELEASED_FILL = (0.4914, 0.4822, 0.4465)  # CAJ's and RLE's, whether pixels are normalised by then or not


class Augment(Protocol):
    """What `data.augment` may be: a class of your own with this call.

    Whatever is drawn should be a function of the arguments (`randomness.image_keys` and `uniforms` make it so). Where
    the call names `identities` or `cameras`, it gets those of the images, (B,), by keyword.
    """

    def __call__(
        self,
        images: Tensor,
        index: Tensor,
        infrared: Tensor,
        *,
        seed: int,
        epoch: int,
        occurrence: Tensor | None = None,
        view: int | None = None,
    ) -> Tensor:
        """uint8 (B, 3, H, W), rows and modality (B,) -> normalised float32 (B, 3, H, W).

        `occurrence` (B,) says how often each row came before in the epoch, `view` which of several views of the batch
        this is, from 0; None where there is one.
        """
        ...


class Draws(NamedTuple):
    """What happens to each image, decided; all (B,)."""

    flip: Tensor  # bool
    top: Tensor  # the crop's corner in the padded image
    left: Tensor
    grayscale: Tensor  # bool
    channel: Tensor  # which one stands for all three, or -1


@checked
@dataclass(frozen=True)
class Augmentation:
    """The recipe's augmentation: `augmentation(images, index, infrared, seed=1, epoch=0)` (see `Augment`).

    `grayscale` and `channel_exchange` are probabilities that a visible image turns to its luminance, or has its three
    channels replaced by one of them; `True` stands for the published share, a half: Ye et al. train on every visible
    image once as it is and once so changed (grayscale: HAT, TIFS 2020; exchange: CAJ, ICCV 2021). They pass both to the
    network at once, here an epoch sees one of the two.

    `grayscale_infrared` is the probability that an infrared image turns to its luminance, `single_channel` that an
    image of either modality has its three channels replaced by one of them. `fill` is the padding's grey, or `mirror`:
    the image goes on mirrored at its border.

    Erased boxes have the colour `erase_fill`, of normalised pixels, or are `noise`, standard normal. Their aspect is
    `log_uniform`, as torchvision draws it in 10 tries, or `uniform`, as most releases of the field do in 100;
    `erase_area` and `erase_ratio` bound both.

    `tone` is the probability of a tone curve of `tone_knots`, in either modality, before all else. `caj` and `rle` are
    those methods' released augmentations after the crop, with their erasing in place of the recipe's; both also pad
    with black (`fill=0`). With two views CAJ's are as released: the first shows visible images as they are.
    """

    flip: Probability = 0.5
    pad: Whole = 10
    fill: Annotated[int, number(0, 255)] | Literal["mirror"] = 127
    erase: Probability = 0.5
    erase_area: tuple[float, float] = (0.02, 0.33)
    erase_ratio: tuple[float, float] = (0.3, 3.3)
    erase_fill: tuple[Finite, Finite, Finite] | Literal["noise"] = MEAN_COLOUR
    erase_aspect: Literal["log_uniform", "uniform"] = "log_uniform"
    grayscale: bool | Probability = False
    grayscale_infrared: Probability = 0.0
    channel_exchange: bool | Probability = False
    single_channel: Probability = 0.0
    tone: Probability = 0.0
    tone_knots: Annotated[int, number(2, 256)] = 5
    caj: bool = False
    rle: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.erase_area[0] <= self.erase_area[1] <= 1 and 0 < self.erase_ratio[0] <= self.erase_ratio[1]):
            raise UserError(
                "augment.erase_area and augment.erase_ratio are (least, most), the area within 0 to 1, "
                f"got {self.erase_area} and {self.erase_ratio}"
            )
        if self.caj and self.rle:
            raise UserError("augment.caj and augment.rle each bring an erasing of their own: switch one of them off")

    def __call__(
        self,
        images: Tensor,
        index: Tensor,
        infrared: Tensor,
        *,
        seed: int,
        epoch: int,
        occurrence: Tensor | None = None,
        view: int | None = None,
    ) -> Tensor:
        """As `Augment` says; channels last in memory."""
        keys = image_keys(seed, epoch, index, occurrence, view or 0)
        pixels = images.permute(0, 2, 3, 1).contiguous()  # (B, H, W, 3)
        _, height, width, _ = pixels.shape
        if self.tone:
            pixels = tone.apply(pixels, tone.draw(keys, self.tone, self.tone_knots))
        pixels, erased = self.move(pixels, self.draw(keys, infrared)), self.draw_erased(keys, height, width)
        if self.rle:
            result = normalise_scaled(erased.fill_(enhance.enhance(scaled(pixels), keys), RELEASED_FILL))
        elif self.caj:
            shown = channels.draw(keys, infrared, view)
            result = channels.show(erased.fill_(normalised(pixels), RELEASED_FILL), shown)
        elif isinstance(self.erase_fill, str):
            result = erased.fill_with_noise_(normalised(pixels), keys, NOISE)
        else:
            result = erased.fill_(normalised(pixels), self.erase_fill)
        return result.permute(0, 3, 1, 2)

    def draw(self, keys: Tensor, infrared: Tensor) -> Draws:
        flip, top, left, grayscale, exchange, channel = uniforms(keys, 6).unbind(1)
        return Draws(
            flip=flip < self.flip,
            top=integer_below(top, 2 * self.pad + 1),
            left=integer_below(left, 2 * self.pad + 1),
            grayscale=torch.where(infrared, grayscale < self.grayscale_infrared, grayscale < _share(self.grayscale)),
            channel=self._one_channel(
                keys, torch.where(~infrared & (exchange < _share(self.channel_exchange)), integer_below(channel, 3), -1)
            ),
        )

    def _one_channel(self, keys: Tensor, exchanged: Tensor) -> Tensor:
        if not self.single_channel:
            return exchanged
        share, which = uniforms(keys, 2, SINGLE).unbind(1)
        return torch.where(share < self.single_channel, integer_below(which, 3), exchanged)

    def draw_erased(self, keys: Tensor, height: int, width: int) -> Boxes:
        """What is erased in each image, if anything."""
        law = RELEASED if self.caj or self.rle else self._law()
        drawn = uniforms(keys, 3 + 2 * law.tries, purpose=ERASING)
        boxes = law.one(drawn[:, 1:], height, width)
        return boxes._replace(height=boxes.height * (drawn[:, 0] < self.erase))

    def _law(self) -> Law:
        by_logarithm = self.erase_aspect == "log_uniform"
        return Law(self.erase_area, self.erase_ratio, ERASE_TRIES if by_logarithm else RELEASED.tries, by_logarithm)

    def move(self, pixels: Tensor, draws: Draws) -> Tensor:
        """uint8 (B, H, W, 3) -> the same, recoloured, flipped and cropped."""
        if self.fill == MIRROR and self.pad > min(height_and_width := pixels.shape[1:3]):
            size = " x ".join(map(str, height_and_width))
            raise UserError(f"augment.fill=mirror has no {self.pad} pixels to mirror in images of {size}.")
        return (self._by_slicing if pixels.device.type == "cpu" else self._by_gathering)(pixels, draws)

    def _by_slicing(self, pixels: Tensor, draws: Draws) -> Tensor:
        """Image by image, which stays in a core's cache: many times the speed of gathering on a CPU."""
        _, height, width, _ = pixels.shape
        pad = self.pad
        canvas = pixels.new_full((height + 2 * pad, width + 2 * pad, 3), 0 if isinstance(self.fill, str) else self.fill)
        inner = canvas[pad : pad + height, pad : pad + width]
        output = torch.empty_like(pixels)
        for source, target, decisions in zip(pixels, output, torch.stack(draws, dim=1).tolist(), strict=True):
            draw = Draws(*decisions)
            if draw.grayscale:
                source = _luminance(source).expand_as(source)
            if draw.channel >= 0:
                source = source[..., draw.channel, None]
            inner.copy_(source.flip(1) if draw.flip else source)
            if self.fill == MIRROR:
                _mirror_border_(canvas, pad)
            target.copy_(canvas[draw.top : draw.top + height, draw.left : draw.left + width])
        return output

    def _by_gathering(self, pixels: Tensor, draws: Draws) -> Tensor:
        """All images at once, without a loop: the way on an accelerator."""
        batch, height, width, _ = pixels.shape
        rows = torch.arange(height, device=pixels.device) + draws.top[:, None] - self.pad  # (B, H) whence a row comes
        columns = torch.arange(width, device=pixels.device) + draws.left[:, None] - self.pad  # (B, W)
        inside = within(rows, 0, height)[:, :, None] & within(columns, 0, width)[:, None, :]  # (B, H, W)
        if self.fill == MIRROR:
            rows, columns = _mirrored(rows, height), _mirrored(columns, width)
        columns = torch.where(draws.flip[:, None], width - 1 - columns, columns)
        image = torch.arange(batch, device=pixels.device)[:, None, None]
        cropped = self._recoloured(pixels, draws)[
            image, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]
        ]
        return cropped if isinstance(self.fill, str) else cropped.masked_fill_(~inside[..., None], self.fill)

    def _recoloured(self, pixels: Tensor, draws: Draws) -> Tensor:
        if self.grayscale or self.grayscale_infrared:
            pixels = torch.where(draws.grayscale[:, None, None, None], _luminance(pixels), pixels)
        if self.channel_exchange or self.single_channel:
            channel = draws.channel[:, None, None, None]
            pixels = torch.where(channel >= 0, torch.take_along_dim(pixels, channel.clamp(min=0), dim=3), pixels)
        return pixels


def _mirrored(positions: Tensor, size: int) -> Tensor:
    """Positions beyond either border of `size` pixels, reflected so that the border's own pixel comes twice."""
    positions = torch.where(positions < 0, -1 - positions, positions)
    return torch.where(positions >= size, 2 * size - 1 - positions, positions)


def _mirror_border_(canvas: Tensor, pad: int) -> None:
    """Fill the border, `pad` wide, of (H, W, 3)."""
    for side in (canvas, canvas.transpose(0, 1)):
        side[:pad] = side[pad : 2 * pad].flip(0)
        side[len(side) - pad :] = side[len(side) - 2 * pad : len(side) - pad].flip(0)


def _luminance(pixels: Tensor) -> Tensor:
    """ITU-R 601 luma (…, H, W, 1) of uint8 (…, H, W, 3), as Pillow rounds it."""
    red, green, blue = pixels.int().split(1, dim=-1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).byte()


def _share(probability: bool | float) -> float:
    return PUBLISHED_COLOUR_SHARE if probability is True else float(probability)
