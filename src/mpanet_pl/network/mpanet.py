"""MPANet (Wu et al., CVPR 2021, figure 2): trunk with modality alleviation, pattern maps, descriptor, neck."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mpanet_pl.errors import UserError
from mpanet_pl.network.patterns import WIDTH, GeneralisedMean, LocalMaps, PatternMaps, describe, gathered, withhold
from mpanet_pl.network.timm_trunk import PREFIX, TimmTrunk
from mpanet_pl.network.trunk import Trunk
from mpanet_pl.system.precision import precise


class Embedding(NamedTuple):
    maps: Tensor  # (B, P, h, w) from 0 to 1: where each pattern looks
    descriptor: Tensor  # (B, D): what metric losses see
    embedding: Tensor  # (B, D): the descriptor behind the neck, what classifiers and the ranking see


class MPANet(nn.Module):
    """Images to embeddings of `dimension` = channels · (patterns + 1); with local maps channels + 64 · patterns.

    `trunk` is a ResNet of torchvision's, resnet18_thin, or timm/NAME for a model of timm's. `pretrained`: True for its
    ImageNet weights, a path to a state dict, or False. `alleviation` names the stages, of layer1 to layer4, that it
    follows; `last_stride` is that of the last, 1 or 2. `pooling` is the paper's mean, or gem. With `two_stream`, the
    stem or a stage, each modality has weights of its own that far, and `forward` needs to know who is `infrared`.
    `maps` are the paper's, deep, or local (`LocalMaps`): those look at what layer1 sees. In training three in four
    embeddings go without local features, or the deep ones would rely on them.

    Examples:
        >>> import torch
        >>> network = MPANet(trunk="resnet18", pretrained=False, patterns=2).eval()
        >>> network(torch.zeros(1, 3, 64, 32)).embedding.shape
        torch.Size([1, 1536])
    """

    def __init__(
        self,
        *,
        trunk: str = "resnet50",
        pretrained: bool | str | Path = True,
        last_stride: int = 1,
        alleviation: Sequence[str] = ("layer3", "layer4"),
        patterns: int = 6,
        maps: str = "deep",
        pooling: str = "mean",
        two_stream: str | None = None,
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "gem"):
            raise UserError(f"pooling is mean or gem, got {pooling}")
        if maps not in ("deep", "local"):
            raise UserError(f"maps are deep or local, got {maps}")
        if patterns < 0:
            raise UserError(f"patterns must be 0 or more, got {patterns}")
        kind = TimmTrunk if trunk.startswith(PREFIX) else Trunk
        self.trunk: Any = kind(
            trunk, pretrained=pretrained, last_stride=last_stride, alleviation=alleviation, two_stream=two_stream
        )
        self.patterns: PatternMaps | LocalMaps
        if maps == "deep":
            self.patterns = PatternMaps(self.trunk.channels, patterns)
        elif patterns and isinstance(self.trunk, Trunk):
            self.patterns = LocalMaps(self.trunk.early_channels, patterns)
        else:
            raise UserError(f"maps=local needs patterns and a ResNet of torchvision, got {patterns} and {trunk}")
        self.two_stream = two_stream
        self.pooling = GeneralisedMean() if pooling == "gem" else None
        self.dimension = self.trunk.channels + patterns * (WIDTH if maps == "local" else self.trunk.channels)
        self.neck = nn.BatchNorm1d(self.dimension)
        self.neck.bias.requires_grad_(False)  # stays 0: classifiers without bias see a space centred at the origin

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Embedding:
        features, maps, local = self.see(images, infrared)
        pool = self.pooling or describe
        if local is None:
            descriptor = precise(pool(features, maps))  # (B, D)
        else:
            descriptor = torch.cat([gathered(local, maps), precise(pool(features, features[:, :0]))], dim=1)
        embedding = self.neck(descriptor)
        if local is not None and self.training:
            embedding = withhold(embedding, self.dimension - self.trunk.channels)
        return Embedding(maps, descriptor, embedding)

    def see(self, images: Tensor, infrared: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Features (B, C, h, w), maps (B, P, h, w), and what local maps are maps of, on a grid of their own."""
        if isinstance(self.patterns, LocalMaps):
            early = self.trunk.early(images, infrared)
            return self.trunk.late(early, infrared), *self.patterns(early)
        features = self.trunk(images, infrared)
        return features, self.patterns(features), None

    def look(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        """The maps alone, by as little of the trunk as they need; its running statistics take no notice."""
        with unnoticed(self):
            if isinstance(self.patterns, LocalMaps):
                with torch.no_grad():
                    early = self.trunk.early(images, infrared)
                return self.patterns(early)[0]
            return self.patterns(self.trunk(images, infrared))


@contextmanager
def unnoticed(network: nn.Module) -> Iterator[None]:
    """Batch normalisation goes on, but its running statistics stay as they are."""
    rates = {layer: layer.momentum for layer in network.modules() if isinstance(layer, _BatchNorm)}
    try:
        for layer in rates:
            layer.momentum = 0.0
        yield
    finally:
        for layer, rate in rates.items():
            layer.momentum = rate
