"""The trunk: a torchvision ResNet up to its last feature map, with modality alleviation after chosen stages.

`resnet18_thin` is a ResNet for small images and small machines: a quarter of ResNet-18's widths, no pooling behind a
3 × 3 stem, 0.7 million weights. What ImageNet is to the others, drawn people are to it: its weights come with the
package (`scripts/pretrain_thin.py`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from mpanet_pl.errors import UserError
from mpanet_pl.network.alleviation import Alleviation
from mpanet_pl.network.stages import STAGES, known
from mpanet_pl.system import weights
from mpanet_pl.system.targets import TARGET, build

RESNETS = torchvision.models.list_models(module=torchvision.models, include=("resnet*", "resnext*", "wide_resnet*"))
STEM = "stem"
PARTS = (STEM, *STAGES)
PREFIXES = {"timm": "mpanet_pl.trunks.timm_trunk.timm_trunk"}  # kinds of trunks by the first part of their names
THIN, THIN_WIDTHS = "resnet18_thin", (16, 32, 64, 128)
DRAWN_WEIGHTS = Path(__file__).with_name("resnet18_thin.pt")


class Trunk(nn.Module):
    """A ResNet without its classifier. Keys are torchvision's and `alleviation.<stage>`.

    `pretrained`: True for ImageNet's weights (the thin one's: drawn people's), a path to a state dict, or False.
    `last_stride` is that of layer4.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool | str | Path = True,
        last_stride: int = 1,
        alleviation: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if name not in (THIN, *RESNETS):
            raise UserError(f"trunk must be one of {', '.join((THIN, *RESNETS))}, got {name}")
        resnet = _thin() if name == THIN else torchvision.models.get_model(name, weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4
        source = _weights_of(name) if pretrained is True else pretrained
        if isinstance(source, str | Path):
            _load(self, source)
        _set_stride(self.layer4[0], last_stride)
        self.channels: int = resnet.fc.in_features
        chosen = known(alleviation)
        self.alleviation = nn.ModuleDict({stage: Alleviation(self.channels_after(stage)) for stage in chosen})

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, C, H/16, W/16) with last stride 1; the thin ResNet's map is H/8 high."""
        return self.through(PARTS, images, infrared)

    def through(self, parts: Sequence[str], features: Tensor, infrared: Tensor | None = None) -> Tensor:
        """Through the stem or stages, each followed by its alleviation. Both modalities share the weights."""
        return self._through(parts, self, features)

    def _through(self, parts: Sequence[str], weights: Any, features: Tensor) -> Tensor:
        for part in parts:
            if part == STEM:
                features = self.maxpool(self.relu(weights.bn1(weights.conv1(features))))
            else:
                features = getattr(weights, part)(features)
            if part in self.alleviation:
                features = self.alleviation[part](features)
        return features

    def channels_after(self, stage: str) -> int:
        return self.channels >> (len(STAGES) - 1 - STAGES.index(stage))


def make_trunk(
    trunk: str | Mapping[str, Any] | nn.Module,
    *,
    pretrained: bool | str | Path,
    last_stride: int,
    alleviation: Sequence[str],
) -> Any:
    """A trunk by its name, by `_target_` with keywords of its own, or as it is."""
    if isinstance(trunk, nn.Module):
        return trunk
    settings = {"name": trunk} if isinstance(trunk, str) else dict(trunk)
    prefix, slash, _ = str(settings.get("name")).partition("/")
    if TARGET not in settings and not slash:
        return Trunk(**settings, pretrained=pretrained, last_stride=last_stride, alleviation=alleviation)
    if TARGET not in settings and prefix not in PREFIXES:
        raise UserError(f"trunk={trunk}: a name with a / begins with {', '.join(PREFIXES)}.")
    offered = {"pretrained": pretrained, "last_stride": last_stride, "alleviation": alleviation}
    return build({TARGET: PREFIXES.get(prefix), **settings, **offered}, "model.network.trunk")


def _thin() -> ResNet:
    resnet = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=1)
    first, last = THIN_WIDTHS[0], THIN_WIDTHS[-1]
    resnet.conv1, resnet.bn1 = nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(first)
    resnet.maxpool, resnet.fc = nn.Identity(), nn.Linear(last, 1)
    for stage, incoming, width in zip(STAGES, (first, *THIN_WIDTHS), THIN_WIDTHS, strict=False):
        setattr(resnet, stage, _stage(incoming, width))
    for module in resnet.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # as torchvision's
    return resnet


def _stage(incoming: int, width: int) -> nn.Sequential:
    """Two blocks; where the width grows, the first halves the map."""
    if incoming == width:
        return nn.Sequential(BasicBlock(width, width), BasicBlock(width, width))
    shortcut = nn.Sequential(nn.Conv2d(incoming, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))
    return nn.Sequential(BasicBlock(incoming, width, 2, shortcut), BasicBlock(width, width))


def _load(trunk: nn.Module, path: str | Path) -> None:
    counters = {key: value for key, value in trunk.state_dict().items() if key.endswith("num_batches_tracked")}
    given = {key: value for key, value in weights.read(path).items() if not key.startswith("fc.")}
    weights.load_exactly(trunk, counters | given, str(path))  # files from before torch 0.4.1 have no counters


def _weights_of(name: str) -> Path:
    """Where torchvision's first weights lie, downloaded if need be; the thin ones came with the package."""
    if name == THIN:
        return DRAWN_WEIGHTS
    url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = path.stem.rpartition("-")[2]
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"no ImageNet weights for {name}: {path} does not exist, and {url} could not be fetched ({error}); "
                "put the file there, or give a path with model.network.pretrained=PATH (false: random weights)"
            ) from error
    return path


def _set_stride(block: nn.Module, stride: int) -> None:
    if stride not in (1, 2):
        raise UserError(f"last_stride must be 1 or 2, got {stride}")
    for module in block.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (stride, stride)
