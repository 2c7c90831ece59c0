"""Local maps: pattern maps of a small field that point at nuances; ours, not MPANet's (docs/background/nuances.md).

Each map looks at what layer1 sees, in a stripe of the image's height. Three terms keep the maps apart (`Overlap`), each
in one place (`Concentration`), and going with a moved image (`Equivariance`). `Sharpen` starts with soft maps.
"""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import normalize

from mpanet_pl.errors import UserError
from mpanet_pl.interfaces import Embedding
from mpanet_pl.network.mpanet import MPANet, neck
from mpanet_pl.network.trunk import PARTS, STAGES, Trunk
from mpanet_pl.system.collective import gather
from mpanet_pl.system.precision import precise

WIDTH = 64  # of the local features
SHARPEST = 20.0  # what multiplies a cosine before the softmax
STRIPE = 0.1  # standard deviation of a map's distance from its own height, in heights
WITHHELD = 0.75  # share of training embeddings without their local features
SMALLEST = 1e-12
EARLY, LATE = PARTS[:2], PARTS[2:]  # layer1 is the last part that local maps look at
SCALES = (0.8, 1.2)  # of a motion
FARTHEST = 0.15  # shift of a motion, in the image's height or width


class LocalMPANet(MPANet):
    """MPANet whose maps are local: `dimension` is channels + 64 · patterns.

    In training three in four embeddings go without local features, or the deep ones would rely on them.
    """

    def __init__(self, *, patterns: int = 6, **keywords: Any) -> None:
        super().__init__(patterns=0, **keywords)
        if patterns < 1 or not isinstance(self.trunk, Trunk):
            raise UserError(f"local maps need patterns and a ResNet of torchvision, got {patterns} patterns")
        self.patterns = LocalMaps(self.trunk.channels_after(STAGES[0]), patterns)
        self.local = patterns * WIDTH
        self.dimension = self.trunk.channels + self.local
        self.neck = neck(self.dimension)

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Embedding:
        early = self.trunk.through(EARLY, images, infrared)
        features = self.trunk.through(LATE, early, infrared)  # (B, C, h, w)
        maps, local = self.patterns(early)  # (B, P, h', w'), (B, 64, h', w')
        descriptor = torch.cat([gathered(local, maps), precise(self.pooling(features, features[:, :0]))], dim=1)
        embedding = self.neck(descriptor.to(self.neck.weight.dtype))
        return Embedding(maps, descriptor, withhold(embedding, self.local) if self.training else embedding)

    def shows(self, images: Tensor, infrared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        early = self.trunk.through(EARLY, images, infrared)
        return self.trunk.through(LATE, early, infrared), self.patterns(early)[0]

    def looks(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            early = self.trunk.through(EARLY, images, infrared)
        return self.patterns(early)[0]


class LocalMaps(nn.Module):
    """P maps that each see a small part of the image, and the local features f that they weight.

    f comes from the trunk's early features, which learn nothing from here. A map is a softmax over positions of
    20 · s · cos(d, f − f̄) − Δy² / 2σ²: d is the pattern's direction, f̄ the image's mean, Δy the distance from the
    pattern's own height, which is the middle of one of P stripes, and s the `sharpness` (see `sharpen`).
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
        """Sharpness from 0.1 at the run's start to 1 after a third of it; `progress` is the share done."""
        self.sharpness.fill_(min(1.0, 0.1 + 2.7 * progress))


class Sharpen(pl.Callback):
    """Sharpens local maps before each step of the optimiser."""

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            module.network.patterns.sharpen(trainer.global_step / trainer.estimated_stepping_batches)  # type: ignore[union-attr, operator]


class Overlap(nn.Module):
    """The term that keeps an image's maps apart."""

    def forward(self, embedding: Embedding, identities: Tensor, infrared: Tensor) -> Tensor:
        return overlap(embedding.maps)


class Concentration(nn.Module):
    """The term that keeps a map in one place."""

    def forward(self, embedding: Embedding, identities: Tensor, infrared: Tensor) -> Tensor:
        return concentration(embedding.maps)


class Equivariance(nn.Module):
    """The term by which a map goes with an image that is moved at random."""

    def forward(
        self, embedding: Embedding, identities: Tensor, infrared: Tensor, *, images: Tensor, look: Any
    ) -> Tensor:
        motions = draw_motions(len(images), images.device)
        moved = look(move(images, motions, continued=True))
        return equivariance(embedding.maps, precise(moved), gather(motions))


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


def overlap(maps: Tensor) -> Tensor:
    """Mean over images and pairs of maps (B, P, h, w) of their cosine."""
    flat = F.normalize(maps.flatten(2), dim=2)
    patterns = maps.shape[1]
    return (flat @ flat.transpose(1, 2)).triu(1).sum() / (len(maps) * max(1, patterns * (patterns - 1) // 2))


def concentration(maps: Tensor) -> Tensor:
    """Mean over maps (B, P, h, w) of how far a map's places lie apart: their variance, in squared heights of the map.

    >>> concentration(torch.tensor([[[[1.0], [1.0]]]])).item()  # two places, half a height apart
    0.0625
    """
    height, width = maps.shape[2:]
    share = maps / maps.sum((2, 3), keepdim=True).clamp(min=SMALLEST)
    variances = []
    for size, weights in ((height, share.sum(3)), (width, share.sum(2))):
        place = torch.arange(size, dtype=maps.dtype, device=maps.device) / height
        mean = (weights * place).sum(2, keepdim=True)
        variances.append((weights * (place - mean).square()).sum(2))
    return _mean(torch.stack(variances).sum(0))


def equivariance(maps: Tensor, moved: Tensor, motion: Tensor) -> Tensor:
    """One minus the cosine of the maps of moved images with the moved maps, both (B, P, h, w), over images and maps."""
    return _mean(1 - F.cosine_similarity(moved.flatten(2), move(maps, motion).flatten(2), dim=2))


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(1, values.numel())


def draw_motions(count: int, device: torch.device) -> Tensor:
    """Motions (count, 2, 2) from torch's own generator, half of which mirror.

    For each axis (down, across) a slope and a shift: the picture at x in [−1, 1] comes from slope · x + shift.
    """
    least, most = SCALES
    scale, mirrored, *shift = torch.rand(4, count, device=device)
    slope = 1 / (least + (most - least) * scale)
    slopes = torch.stack([slope, torch.where(mirrored < 0.5, -slope, slope)], dim=1)
    shifts = 2 * FARTHEST * (2 * torch.stack(shift, dim=1) - 1)
    return torch.stack([slopes, shifts], dim=2)


def move(pictures: Tensor, motions: Tensor, *, continued: bool = False) -> Tensor:
    """Images or maps (B, C, h, w) moved by motions (B, 2, 2), bilinearly; what comes from outside is 0.

    `continued` repeats the border's pixels outside: an edge that moves along would be a place to look at.

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
