"""A trunk of timm's: any convolutional or hierarchical model, with modality alleviation after chosen stages.

`layer1` … `layer4` are its last four stages, whatever the model calls them. Images come normalised by ImageNet's
statistics, as everywhere here; a model that was trained with others gets its own, one affine step before its stem.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.network.alleviation import Alleviation
from mpanet_pl.network.stages import STAGES, known
from mpanet_pl.system import weights

PREFIX = "timm/"
SMALL = (1, 3, 64, 32)  # images to learn a model's layout by
NO_LAST_STRIDE = "timm's {} has no last stride to change: set model.network.last_stride=2."


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
        self.model = _create(name.removeprefix(PREFIX), last_stride, pretrained is True)
        if isinstance(pretrained, str | Path):
            _load(self.model, pretrained)
        stages = [str(info["module"]) for info in self.model.feature_info][-len(STAGES) :]
        widths = [int(info["num_chs"]) for info in self.model.feature_info][-len(STAGES) :]
        there = STAGES[-len(stages) :]
        self.channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        self.alleviation = nn.ModuleDict()
        for stage in known(alleviation, there):
            self.alleviation[stage] = Alleviation(widths[there.index(stage)])
            after = self.model.get_submodule(stages[there.index(stage)])
            after.register_forward_hook(_Alleviate(self.alleviation[stage], self.channels_last))
        self.normalisation: tuple[Sequence[float], Sequence[float]] = (
            self.model.pretrained_cfg["mean"],
            self.model.pretrained_cfg["std"],
        )
        scale, shift = _between_normalisations(*self.normalisation)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.channels = self._channels(name, last_stride)

    scale: Tensor
    shift: Tensor

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Tensor:  # (B, 3, H, W) -> (B, C, h, w)
        features = self.model.forward_features(images * self.scale + self.shift)
        return features.permute(0, 3, 1, 2) if self.channels_last else features

    def _channels(self, name: str, last_stride: int) -> int:
        """Of the last map; weights that have no part in it learn nothing."""
        was_training = self.training
        try:
            features = self.eval()(torch.zeros(SMALL))
        except (RuntimeError, AssertionError, TypeError) as error:
            raise UserError(f"{name} does not take images of any size ({error}): it cannot be a trunk.") from error
        if features.ndim != 4:
            raise UserError(f"{name} has no feature maps, its last output is {tuple(features.shape)}.")
        if last_stride == 1 and features.shape[2] < SMALL[2] // 16:  # some releases pass over the keyword
            raise UserError(NO_LAST_STRIDE.format(name))
        trained = {name: weight for name, weight in self.named_parameters() if weight.requires_grad}
        used = torch.autograd.grad(features.sum(), [*trained.values()], allow_unused=True)
        for weight, gradient in zip(trained.values(), used, strict=True):
            weight.requires_grad_(gradient is not None)
        self.train(was_training)
        return features.shape[1]


class _Alleviate:
    """After a stage; an object and no function, so that a copy of the trunk calls its own copy of the alleviation."""

    def __init__(self, alleviation: nn.Module, channels_last: bool) -> None:
        self.alleviation, self.channels_last = alleviation, channels_last

    def __call__(self, stage: nn.Module, inputs: Any, features: Tensor) -> Tensor:
        if not self.channels_last:
            return self.alleviation(features)
        return self.alleviation(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _create(name: str, last_stride: int, pretrained: bool) -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError(f"trunk={PREFIX}{name} needs timm: pip install 'mpanet_pl[timm]'.") from error
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('.')[0][:8]}*")[:5])
        raise UserError(f"timm {timm.__version__} has no model {name}.{f' Near it: {near}.' if near else ''}")
    if last_stride not in (1, 2):
        raise UserError(f"last_stride must be 1 or 2, got {last_stride}")
    keywords: dict[str, Any] = {"num_classes": 0}
    configured = timm.get_pretrained_cfg(name)
    if configured is not None and configured.fixed_input_size:
        keywords["strict_img_size"] = False
    model = _construct(timm.create_model, name, keywords | ({"output_stride": 16} if last_stride == 1 else {}))
    if model is None and last_stride == 1 and _construct(timm.create_model, name, keywords) is not None:
        raise UserError(NO_LAST_STRIDE.format(name))
    if model is None:
        raise UserError(f"timm's {name} takes images of one size alone and has no stages: it cannot be a trunk.")
    if len({info["reduction"] for info in getattr(model, "feature_info", [])}) < 3:
        raise UserError(f"timm's {name} has no stages of falling resolution: it cannot be a trunk.")
    if pretrained:
        model.load_state_dict(_published(timm.create_model, name).state_dict())
    return model


def _construct(create: Callable[..., Any], name: str, keywords: Mapping[str, Any]) -> Any:
    """The model, or None where it does not take these keywords."""
    try:
        return create(name, pretrained=False, **keywords)
    except (TypeError, AssertionError):  # the two ways in which timm's models refuse a keyword
        return None


def _published(create: Callable[..., Any], name: str) -> nn.Module:
    try:
        return create(name, pretrained=True, num_classes=0)
    except Exception as error:  # no network, no such file, a hub's own kinds: there is no end to them
        from huggingface_hub.constants import HF_HUB_CACHE

        raise UserError(
            f"no pretrained weights for timm's {name}: they are not in {HF_HUB_CACHE} or {torch.hub.get_dir()}, and "
            f"could not be fetched ({str(error).splitlines()[0]}); give a path with model.network.pretrained=PATH "
            "(false: random weights)"
        ) from error


def _load(model: Any, path: str | Path) -> None:
    state = _renamed(weights.read(path))
    classifiers = model.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{head}." for head in ([classifiers] if isinstance(classifiers, str) else classifiers))
    weights.load_exactly(model, {key: value for key, value in state.items() if not key.startswith(heads)}, str(path))


def _renamed(state: Mapping[str, Any]) -> dict[str, Any]:
    """By timm's names, where a file has those of EfficientNet-PyTorch: `_blocks.3._expand_conv.weight`."""
    if "_conv_stem.weight" not in state:
        return dict(state)
    whole = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    widening = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    widening |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    places = _places(state)
    renamed = {}
    for key, value in state.items():
        if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
            number, layer, kind = block.groups()
            names = widening if f"_blocks.{number}._expand_conv.weight" in state else plain
            renamed[f"blocks.{places[int(number)]}.{names.get(layer, layer)}.{kind}"] = value
        else:
            layer, _, kind = key.partition(".")
            renamed[f"{whole.get(layer, layer)}.{kind}"] = value
    return renamed


def _places(state: Mapping[str, Any]) -> dict[int, str]:
    """Where timm has the numbered blocks: a stage begins where a block's output is wider than its input."""
    count = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("_blocks."))
    places, stage, within, width = {}, -1, 0, None
    for number in range(count):
        out = len(state[f"_blocks.{number}._project_conv.weight"])
        stage, within = (stage, within + 1) if out == width else (stage + 1, 0)
        places[number], width = f"{stage}.{within}", out
    return places


def _between_normalisations(mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
    """What images normalised by ImageNet's statistics are multiplied by, and added to: (1, 3, 1, 1) each."""
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    usual_mean, usual_std, mean_, std_ = (
        torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, mean, std)
    )
    return usual_std / std_, (usual_mean - mean_) / std_
