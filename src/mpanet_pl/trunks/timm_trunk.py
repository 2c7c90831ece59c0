"""A trunk of timm's: any convolutional or hierarchical model, with modality alleviation after chosen stages.

`layer1` … `layer4` are its last four stages, whatever the model calls them. Images come normalised by ImageNet's
statistics, as everywhere here; a model that was trained with others gets its own, one affine step before its stem.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.network.alleviation import Alleviation
from mpanet_pl.network.stages import STAGES, known
from mpanet_pl.trunks.timm_models import Normalised, Refused, create, family, has_one_size, load_file, without_part
from mpanet_pl.trunks.vit import FAMILIES, ViTTrunk

SMALL = (1, 3, 64, 32)  # images to learn a model's layout by
NO_LAST_STRIDE = "{} has no last stride to change: set model.network.last_stride=2."


def timm_trunk(
    name: str, *, pretrained: bool | str | Path = True, last_stride: int = 1, alleviation: Sequence[str] = ()
) -> nn.Module:
    """The trunk of its kind: with stages, or a plain vision transformer."""
    kind = ViTTrunk if family(name) in FAMILIES else TimmTrunk
    return kind(name, pretrained=pretrained, last_stride=last_stride, alleviation=alleviation)


class TimmTrunk(nn.Module):
    """Keys are timm's behind `model.`, without the classifier, and `alleviation.<stage>`."""

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool | str | Path,
        last_stride: int,
        alleviation: Sequence[str],
    ) -> None:
        super().__init__()
        if last_stride not in (1, 2):
            raise UserError(f"last_stride must be 1 or 2, got {last_stride}")
        self.model = _with_stages(name, last_stride, pretrained is True)
        if isinstance(pretrained, str | Path):
            load_file(self.model, name, pretrained)
        stages = [str(info["module"]) for info in self.model.feature_info][-len(STAGES) :]
        widths = [int(info["num_chs"]) for info in self.model.feature_info][-len(STAGES) :]
        there = STAGES[-len(stages) :]
        self.channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        self.alleviation = nn.ModuleDict()
        for stage in known(alleviation, there):
            self.alleviation[stage] = Alleviation(widths[there.index(stage)])
            after = self.model.get_submodule(stages[there.index(stage)])
            after.register_forward_hook(_Alleviate(self.alleviation[stage], self.channels_last))
        self.normalised = Normalised(self.model)
        self.channels = self._channels(name, last_stride)

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:  # (B, 3, H, W) -> (B, C, h, w)
        features = self.model.forward_features(self.normalised(images))
        return features.permute(0, 3, 1, 2) if self.channels_last else features

    def _channels(self, name: str, last_stride: int) -> int:
        """Of the last map."""
        try:
            features = without_part(self, torch.zeros(SMALL))
        except (RuntimeError, AssertionError, TypeError) as error:
            raise UserError(f"{name} does not take images of any size ({error}): it cannot be a trunk.") from error
        if features.ndim != 4:
            raise UserError(f"{name} has no feature maps, its last output is {tuple(features.shape)}.")
        if last_stride == 1 and features.shape[2] < SMALL[2] // 16:  # some releases pass over the keyword
            raise UserError(NO_LAST_STRIDE.format(name))
        return features.shape[1]


class _Alleviate:
    """After a stage; an object and no function, so that a copy of the trunk calls its own copy of the alleviation."""

    def __init__(self, alleviation: nn.Module, channels_last: bool) -> None:
        self.alleviation, self.channels_last = alleviation, channels_last

    def __call__(self, stage: nn.Module, inputs: Any, features: Tensor) -> Tensor:
        if not self.channels_last:
            return self.alleviation(features)
        return self.alleviation(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _with_stages(name: str, last_stride: int, pretrained: bool) -> Any:
    """A model for images of any size."""
    wanted: dict[str, Any] = {"strict_img_size": False} if has_one_size(name) else {}
    wanted |= {"output_stride": 16} if last_stride == 1 else {}
    while True:
        try:
            model = create(name, pretrained, **wanted)
            break
        except Refused as refusal:
            word = next((word for word in wanted if word in str(refusal)), "output_stride")
            if wanted.pop(word, None) is None:
                raise
    if len({info["reduction"] for info in getattr(model, "feature_info", [])}) < 3:
        raise UserError(f"{name} has no stages of falling resolution: it cannot be a trunk.")
    if last_stride == 1 and "output_stride" not in wanted:
        raise UserError(NO_LAST_STRIDE.format(name))
    return model
