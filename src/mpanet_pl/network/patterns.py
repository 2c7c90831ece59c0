"""Pattern alignment (MPANet, section 3.2): soft maps of body parts, and what the features say under each."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mpanet_pl.system.precision import precise

WIDTH = 64  # of the local features
SHARPEST = 20.0  # what multiplies a cosine before the softmax
STRIPE = 0.1  # how far from its own height a local map looks, in heights: a standard deviation
WITHHELD = 0.75  # share of training embeddings without their local features
SMALLEST = 1e-6  # feature that a root is taken of: its slope is infinite at 0


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


class LocalMaps(nn.Module):
    """P maps that each see a small part of the image, and the features they see; not MPANet's.

    The trunk's early features, which learn nothing from here, become local ones, f. A map is the softmax over positions
    of a pattern's cosine with f, of which the image's mean is taken, times 20, less a parabola around the pattern's own
    height, one of P stripes; `sharpness`, from 0 to 1, weakens the factor (see `sharpen`).
    """

    sharpness: Tensor

    def __init__(self, channels: int, patterns: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_layer(channels, WIDTH, 3, stride=2, padding=1), *_layer(WIDTH, WIDTH, 1), *_layer(WIDTH, WIDTH, 1)
        )
        self.directions = nn.Parameter(torch.randn(patterns, WIDTH))
        self.register_buffer("sharpness", torch.ones(()))

    def forward(self, early: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, 2h, 2w) -> maps (B, P, h, w), each of sum 1, and local features (B, 64, h, w)."""
        features = precise(self.features(early.detach()))
        deviation = normalize(features - features.mean((2, 3), keepdim=True), dim=1)
        with torch.autocast(features.device.type, enabled=False):  # a rounded cosine times 20 is no cosine
            cosines = torch.einsum("pc,bchw->bphw", normalize(self.directions, dim=1), deviation)
            logits = SHARPEST * self.sharpness * cosines - self._distances(cosines).square() / 2
        return logits.flatten(2).softmax(2).view_as(cosines), features

    def _distances(self, cosines: Tensor) -> Tensor:
        """(P, h, 1): how far each row is from each pattern's own, in standard deviations."""
        own, rows = (
            (torch.arange(count, dtype=cosines.dtype, device=cosines.device) + 0.5) / count
            for count in cosines.shape[1:3]
        )
        return (own[:, None, None] - rows[:, None]) / STRIPE

    def sharpen(self, progress: float) -> None:
        """From a tenth at the run's start to the whole after a third of it; `progress` is its share gone by."""
        self.sharpness.fill_(min(1.0, 0.1 + 2.7 * progress))


def _layer(incoming: int, width: int, size: int, *, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    convolution = nn.Conv2d(incoming, width, size, stride, padding, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return [convolution, nn.BatchNorm2d(width), nn.ReLU()]


def gathered(features: Tensor, maps: Tensor) -> Tensor:
    """Sum of the features (B, C, h, w) weighted by each map (B, P, h, w): (B, P · C)."""
    return (maps.flatten(2) @ features.flatten(2).transpose(1, 2)).flatten(1)


def withhold(embedding: Tensor, local: int) -> Tensor:
    """The embeddings (B, D), three in four of them with 0 for their first `local` numbers."""
    places = torch.arange(embedding.shape[1], device=embedding.device) < local
    rows = torch.rand(len(embedding), 1, device=embedding.device) < WITHHELD
    return embedding.masked_fill(rows & places, 0)


def describe(features: Tensor, maps: Tensor) -> Tensor:
    """Mean of the features weighted by every map, then their plain mean: (B, (P + 1) · C).

    >>> describe(torch.ones(2, 5, 4, 3), torch.full((2, 1, 4, 3), 0.5))[0].tolist()
    [0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    everywhere = torch.ones_like(features[:, :1])
    weights = torch.cat([maps, everywhere], dim=1).flatten(2)  # (B, P + 1, h·w)
    positions = features.flatten(2).transpose(1, 2)  # (B, h·w, C)
    return (weights @ positions / weights.shape[2]).flatten(1)


class GeneralisedMean(nn.Module):
    """`describe` with another mean, (mean of x^p)^(1/p) with a p that learns (Radenović et al., 2018): between the mean
    (p = 1) and the maximum; negative features count as 0.

    >>> GeneralisedMean()(torch.tensor([[[[1.0, 3.0]]]]), torch.zeros(1, 0, 1, 2))  # ((1 + 27) / 2) ** (1 / 3)
    tensor([[2.4101]], grad_fn=<PowBackward1>)
    """

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor(p))

    def forward(self, features: Tensor, maps: Tensor) -> Tensor:  # (B, C, h, w), (B, P, h, w) -> (B, (P + 1) · C)
        with torch.autocast(features.device.type, enabled=False):  # cubes leave the range of float16
            powers = precise(features).clamp(min=SMALLEST) ** self.p
            return describe(powers, precise(maps)).clamp(min=SMALLEST**3) ** (1 / self.p)
