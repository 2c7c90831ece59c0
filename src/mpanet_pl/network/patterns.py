"""Pattern alignment (MPANet, section 3.2): soft maps of body parts, and what the features say under each."""

import torch
from torch import Tensor, nn


class PatternMaps(nn.Module):
    """P maps in (0, 1) over the positions of a feature map; P = 0 gives none."""

    def __init__(self, channels: int, patterns: int) -> None:
        super().__init__()
        self.attention = _attention(channels, patterns) if patterns else None

    def forward(self, features: Tensor) -> Tensor:  # (B, C, h, w) -> (B, P, h, w)
        if self.attention is None:
            return features[:, :0]
        return self.attention(features).sigmoid()


def _attention(channels: int, patterns: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, patterns, 1)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # there is one
    return convolution


def describe(features: Tensor, maps: Tensor) -> Tensor:
    """Mean of the features weighted by every map, then their plain mean: (B, (P + 1) · C).

    >>> describe(torch.ones(2, 5, 4, 3), torch.full((2, 1, 4, 3), 0.5))[0].tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    everywhere = torch.ones_like(features[:, :1])
    weights = torch.cat([maps, everywhere], dim=1).flatten(2)  # (B, P + 1, h·w)
    positions = features.flatten(2).transpose(1, 2)  # (B, h·w, C)
    return (weights @ positions / weights.shape[2]).flatten(1)
