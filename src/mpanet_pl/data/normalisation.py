"""Pixels of 0 to 255 become what a network trained on ImageNet expects: torchvision's operations, bit for bit."""

import numpy as np
import torch
from torch import Tensor, nn

from mpanet_pl.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(images: Tensor) -> Tensor:
    """uint8 (B, 3, H, W) -> float32, scaled to [0, 1] and normalised by ImageNet's statistics, channels last."""
    if images.dtype != torch.uint8:
        raise UserError(f"normalise takes uint8 pixels of 0 to 255, got {images.dtype}: is it normalised already?")
    return normalised(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Normalise(nn.Module):
    """`normalise` for numbers 0 to 255 of any type, as a layer that every exporter understands."""

    levels: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("levels", (255.0,) * 3), ("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.to(self.mean.dtype) / self.levels - self.mean) / self.std


def normalised(pixels: Tensor) -> Tensor:
    """(B, H, W, 3) of 0 to 255 -> float32."""
    *_, width, channels = pixels.shape
    levels, mean, std = _statistics(pixels.device).repeat(1, width)  # long rows: three channels would not vectorise
    output = _empty_floats(pixels)
    by_image = _is_at_hand(pixels)  # one image stays in a core's cache
    for source, target in zip(*((pixels, output) if by_image else ([pixels], [output])), strict=True):
        target.copy_(source).view(-1, width * channels).div_(levels).sub_(mean).div_(std)
    return output


def scaled(pixels: Tensor) -> Tensor:
    """(B, H, W, 3) of 0 to 255 -> float32 of 0 to 1."""
    return pixels / _statistics(pixels.device)[0]


def normalise_scaled(pixels: Tensor) -> Tensor:
    """What `normalised` does beyond `scaled`."""
    _, mean, std = _statistics(pixels.device)
    return (pixels - mean) / std


def _statistics(device: torch.device) -> Tensor:
    """Levels, mean and standard deviation (3, 3); made at every use, as a tensor keeps the mode (inference, fake) of
    its making. A tensor of levels, because dividing by a number is a multiplication on some devices.
    """
    return torch.tensor([(255.0,) * 3, IMAGENET_MEAN, IMAGENET_STD]).to(device, non_blocking=True)  # waits for no GPU


def _empty_floats(pixels: Tensor) -> Tensor:
    """Room for the float32 of `pixels`; on the CPU numpy's, which asks for huge pages: touching it costs a third."""
    if _is_at_hand(pixels):
        return torch.from_numpy(np.empty(pixels.shape, np.float32))
    return torch.empty(pixels.shape, device=pixels.device)


def _is_at_hand(pixels: Tensor) -> bool:
    """Real pixels on a CPU, neither traced nor fake ones."""
    return type(pixels) is Tensor and pixels.device.type == "cpu" and not torch.compiler.is_compiling()
