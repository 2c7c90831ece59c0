"""Modality alleviation (MPANet, section 3.1): take each image's style out of the channels that carry modality.

A gate m per image and channel mixes a map with its instance normalisation: y = m · x + (1 − m) · IN(x). Both are
affine in x, so the mixture is one scale and one shift per image and channel. The two passes over the map carry their
gradients with them, because memory is what they cost: autograd's own would write the map twice as often. For the same
reason a map of half precision is widened a few images at a time on a CPU, which keeps them in its cache.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mpanet_pl.system.precision import at_least_float32

EPSILON = 1e-5
WIDENED = 1 << 20  # elements at once
POSITIONS = (2, 3)


class Alleviation(nn.Module):
    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.excite = nn.Conv2d(channels // reduction, channels, 1, bias=False)
        for conv in (self.squeeze, self.excite):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")

    def forward(self, features: Tensor) -> Tensor:  # (B, C, h, w) -> the same
        mean, variance = _call(_Moments, features)  # (B, C, 1, 1)
        gate = self.excite(self.squeeze(mean).relu()).sigmoid()
        normalising = (variance + EPSILON).rsqrt()
        scale = gate + (1 - gate) * normalising
        shift = (gate - 1) * normalising * mean
        return _call(_ScaleAndShift, features, scale, shift)


def _call(function: type[torch.autograd.Function], *inputs: Tensor) -> Any:
    """Where no gradient is wanted the plain operations do, which every exporter understands."""
    return function.apply(*inputs) if torch.is_grad_enabled() else function.forward(*inputs)


class _Moments(torch.autograd.Function):
    """Mean and variance over the positions, in float32 or better."""

    @staticmethod
    def forward(features: Tensor) -> tuple[Tensor, Tensor]:
        means, variances = [], []
        for part in _parts(features):
            spread = part.to(at_least_float32(features.dtype), copy=True)
            means.append(spread.mean(POSITIONS, keepdim=True))
            variances.append((spread - means[-1]).square_().mean(POSITIONS, keepdim=True))
        return torch.cat(means), torch.cat(variances)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], output[0])

    @staticmethod
    def backward(ctx: Any, of_mean: Tensor, of_variance: Tensor) -> Tensor:
        features, mean = ctx.saved_tensors
        area = features.shape[2] * features.shape[3]
        slope = 2 * of_variance / area
        level = of_mean / area - slope * mean
        return torch.addcmul(level.to(features.dtype), slope.to(features.dtype), features)


class _ScaleAndShift(torch.autograd.Function):
    """features · scale + shift, in the precision of the features."""

    @staticmethod
    def forward(features: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return torch.addcmul(shift.to(features.dtype), scale.to(features.dtype), features)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, scale = ctx.saved_tensors
        product = gradient * features
        of_scale, of_shift = _sum(product, scale.dtype), _sum(gradient, scale.dtype)
        return torch.mul(gradient, scale.to(gradient.dtype), out=product), of_scale, of_shift


def _sum(features: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.cat([part.sum(POSITIONS, keepdim=True, dtype=dtype) for part in _parts(features)])


def _parts(features: Tensor) -> tuple[Tensor, ...]:
    """Images that are widened together; all of them where nothing is, so that an exporter sees no loop."""
    if features.device.type != "cpu" or features.dtype == at_least_float32(features.dtype):
        return (features,)
    return features.split(max(1, WIDENED // features.shape[1:].numel()))
