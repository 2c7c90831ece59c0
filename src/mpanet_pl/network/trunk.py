"""The trunk: a torchvision ResNet up to its last feature map, with modality alleviation after chosen stages.

`resnet18_thin` is a ResNet for small images and small machines: a quarter of ResNet-18's widths, no pooling behind a
3 × 3 stem, 0.7 million weights.
"""

import copy
from collections.abc import Sequence
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

RESNETS = torchvision.models.list_models(module=torchvision.models, include=("resnet*", "resnext*", "wide_resnet*"))
STEM = "stem"
PARTS = (STEM, *STAGES)
EARLY = (STEM, STAGES[0])
THIN, THIN_WIDTHS = "resnet18_thin", (16, 32, 64, 128)


class Trunk(nn.Module):
    """Keys are torchvision's, without the classifier and with `alleviation.<stage>`.

    With `two_stream`, the stem or a stage, each modality has its own weights up to and with it (of the infrared images
    under `infrared.`); the alleviation is shared.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool | str | Path,
        last_stride: int,
        alleviation: Sequence[str],
        two_stream: str | None = None,
    ) -> None:
        super().__init__()
        if name not in (THIN, *RESNETS):
            raise UserError(f"trunk must be one of {', '.join((THIN, *RESNETS))}, got {name}")
        resnet = _thin() if name == THIN else torchvision.models.get_model(name, weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4
        source = _imagenet_file(name) if pretrained is True else pretrained
        if isinstance(source, str | Path):
            _load(self, source)
        _set_stride(self.layer4[0], last_stride)
        self.channels: int = resnet.fc.in_features
        self.alleviation = nn.ModuleDict({stage: Alleviation(self._channels(stage)) for stage in known(alleviation)})

        self.split = _up_to(two_stream)
        theirs = [name for part in self.split for name in (("conv1", "bn1") if part == STEM else (part,))]
        self.infrared = nn.ModuleDict({name: copy.deepcopy(getattr(self, name)) for name in theirs})

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) -> (B, C, H/16, W/16) with last stride 1, thin H/8; two streams need infrared (B,) bool."""
        return self._both(PARTS, images, infrared)

    def early(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:
        """As far as layer1; `late` goes on from there."""
        return self._both(EARLY, images, infrared)

    def late(self, features: Tensor, infrared: Tensor | None = None) -> Tensor:
        return self._both(PARTS[len(EARLY) :], features, infrared)

    def _both(self, parts: Sequence[str], features: Tensor, infrared: Tensor | None) -> Tensor:
        """Both modalities through parts of the trunk, together where they share weights."""
        own = [part for part in parts if part in self.split]
        features = self._streams(own, features, infrared) if own else features
        return self._through(parts[len(own) :], self, features)

    def _streams(self, parts: Sequence[str], images: Tensor, infrared: Tensor | None) -> Tensor:
        """Each modality through weights, and in training by statistics, of its own."""
        if infrared is None:
            raise UserError("This network has two streams (two_stream): it needs to know which images are infrared.")
        if torch.compiler.is_exporting():  # a graph whose shapes depend on no value
            both = [self._through(self.split, weights, images) for weights in (self, self.infrared)]
            return torch.where(infrared[:, None, None, None], both[1], both[0])
        order = infrared.byte().argsort(stable=True)  # the visible images first
        count = int((~infrared).sum())  # this waits for the device
        rows = images[order]
        streams = (self, rows[:count]), (self.infrared, rows[count:])
        features = [self._through(parts, weights, theirs) for weights, theirs in streams if len(theirs)]
        return torch.cat(features)[order.argsort()]

    def _through(self, parts: Sequence[str], weights: Any, features: Tensor) -> Tensor:
        """Through the stem or stages of a stream, with the alleviation that follows them."""
        for part in parts:
            if part == STEM:
                features = self.maxpool(self.relu(weights.bn1(weights.conv1(features))))
            else:
                features = getattr(weights, part)(features)
            if part in self.alleviation:
                features = self.alleviation[part](features)
        return features

    @property
    def early_channels(self) -> int:
        return self._channels(STAGES[0])

    def _channels(self, stage: str) -> int:
        return self.channels >> (len(STAGES) - 1 - STAGES.index(stage))


def _up_to(two_stream: str | None) -> tuple[str, ...]:
    """The stem and the stages that each modality has for itself."""
    if two_stream is None:
        return ()
    if two_stream not in PARTS:
        raise UserError(f"two_stream is null or one of {', '.join(PARTS)}, got {two_stream}")
    return PARTS[: PARTS.index(two_stream) + 1]


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


def _imagenet_file(name: str) -> Path:
    """Where torchvision's first weights lie, downloaded if need be."""
    if name == THIN:
        raise UserError(f"There are no ImageNet weights for {THIN}: set model.network.pretrained=false, or a path.")
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
