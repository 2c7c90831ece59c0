"""Modality alleviation (MPANet, section 3.1): take each image's style out of the channels that carry modality.

A gate m per image and channel mixes a map with its instance normalisation: y = m · x + (1 − m) · IN(x). Both are
affine in x, so that the mixture is one scale and one shift per image and channel.
"""

import torch
from torch import Tensor, nn

from mpanet_pl.precision import precise

EPSILON = 1e-5


class Alleviation(nn.Module):
    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.excite = nn.Conv2d(channels // reduction, channels, 1, bias=False)
        for conv in (self.squeeze, self.excite):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out")

    def forward(self, features: Tensor) -> Tensor:  # (B, C, h, w) -> the same
        variance, mean = torch.var_mean(precise(features), dim=(2, 3), correction=0, keepdim=True)  # (B, C, 1, 1)
        gate = self.excite(self.squeeze(mean).relu()).sigmoid()
        normalising = (variance + EPSILON).rsqrt()
        scale = gate + (1 - gate) * normalising
        shift = (gate - 1) * normalising * mean
        return torch.addcmul(shift.to(features.dtype), scale.to(features.dtype), features)
