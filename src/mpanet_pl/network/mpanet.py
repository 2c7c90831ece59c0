"""MPANet (Wu et al., CVPR 2021, figure 2): trunk with modality alleviation, pattern maps, descriptor, neck."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mpanet_pl.interfaces import Embedding, asked_by
from mpanet_pl.network.patterns import PatternMaps, describe
from mpanet_pl.network.trunk import make_trunk
from mpanet_pl.system.precision import precise
from mpanet_pl.system.ranges import Count, Place, Whole, checked
from mpanet_pl.system.targets import part


@checked
class MPANet(nn.Module):
    """Images to embeddings of `dimension` = channels · (patterns + 1).

    Args:
        trunk: a ResNet of torchvision's, resnet18_thin, timm/NAME, or a class of your own by `_target_`.
        pretrained: True for its ImageNet weights, a path to a state dict, or False.
        last_stride: that of the last stage, 1 or 2; of a plain ViT the pixels from patch to patch.
        alleviation: the stages, of layer1 to layer4, that modality alleviation follows.
        patterns: the number of maps, 0 or more.
        pooling: (features, maps) to descriptors; None for the paper's mean, or a class by `_target_`.

    Examples:
        >>> import torch
        >>> network = MPANet(trunk="resnet18", pretrained=False, patterns=2).eval()
        >>> network(torch.zeros(1, 3, 64, 32)).embedding.shape
        torch.Size([1, 1536])
    """

    def __init__(
        self,
        *,
        trunk: str | Mapping[str, Any] | nn.Module = "resnet50",
        pretrained: bool | Place | Path = True,
        last_stride: Count = 1,
        alleviation: Sequence[str] = ("layer3", "layer4"),
        patterns: Whole = 6,
        pooling: Mapping[str, Any] | Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = make_trunk(trunk, pretrained=pretrained, last_stride=last_stride, alleviation=alleviation)
        self.asks = asked_by(self.trunk)
        self.patterns: nn.Module = PatternMaps(self.trunk.channels, patterns)
        self.pooling = describe if pooling is None else part(pooling, "model.network.pooling")
        self.dimension = self.trunk.channels * (patterns + 1)
        self.neck = neck(self.dimension)

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Embedding:
        features, maps = self.shows(images, infrared)  # (B, C, h, w), (B, P, h, w)
        descriptor = precise(self.pooling(features, maps))  # (B, D)
        return Embedding(maps, descriptor, self.neck(descriptor.to(self.neck.weight.dtype)))

    def shows(self, images: Tensor, infrared: Tensor | None = None) -> tuple[Tensor, Tensor]:
        features = self.trunk(images, infrared)
        return features, self.patterns(features)


def neck(dimension: int) -> nn.BatchNorm1d:
    """Batch normalisation whose bias stays 0: classifiers without bias see a space centred at the origin."""
    layer = nn.BatchNorm1d(dimension)
    layer.bias.requires_grad_(False)
    return layer
