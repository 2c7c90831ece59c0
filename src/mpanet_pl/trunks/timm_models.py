"""timm's models by name, and their weights: what its two kinds of trunks share."""

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.system import weights

PREFIX = "timm/"


class Refused(UserError):
    """A model does not take a keyword."""


def family(name: str) -> str:
    """timm's file that a model is in: `vision_transformer`, `resnet`, …"""
    return str(_file_of(name).__name__).rpartition(".")[2]


def _file_of(name: str) -> Any:
    timm, bare = _timm(name), name.removeprefix(PREFIX)
    if not timm.is_model(bare):
        near = ", ".join(timm.list_models(f"*{bare.split('.')[0][:8]}*")[:5])
        raise UserError(f"timm {timm.__version__} has no model {bare}.{f' Near it: {near}.' if near else ''}")
    return sys.modules[timm.model_entrypoint(bare).__module__]


def has_one_size(name: str) -> bool:
    """Whether the model takes images of one size unless it is told otherwise."""
    configured = _timm(name).get_pretrained_cfg(name.removeprefix(PREFIX))
    return configured is not None and bool(configured.fixed_input_size)


def create(name: str, pretrained: bool, **keywords: Any) -> Any:
    """The model without its classifier, with timm's weights where it is `pretrained`."""
    timm, bare = _timm(name), name.removeprefix(PREFIX)
    _file_of(name)
    try:
        model = timm.create_model(bare, pretrained=False, num_classes=0, **keywords)
    except (TypeError, AssertionError, NotImplementedError) as error:  # the ways in which models refuse a keyword
        raise Refused(f"timm's {bare} cannot be a trunk: {str(error) or type(error).__name__}") from error
    if pretrained:
        model.load_state_dict(_published(timm, bare, keywords).state_dict())
    return model


def _timm(name: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise UserError(f"trunk={name} needs timm: pip install 'mpanet_pl[timm]'.") from error
    return timm


def _published(timm: Any, name: str, keywords: Mapping[str, Any]) -> nn.Module:
    try:
        return timm.create_model(name, pretrained=True, num_classes=0, **keywords)
    except Exception as error:  # no network, no such file, a hub's own kinds: there is no end to them
        from huggingface_hub.constants import HF_HUB_CACHE

        raise UserError(
            f"no pretrained weights for timm's {name}: they are not in {HF_HUB_CACHE} or {torch.hub.get_dir()}, and "
            f"could not be fetched ({str(error).splitlines()[0]}); give a path with model.network.pretrained=PATH "
            "(false: random weights)"
        ) from error


def load_file(model: Any, name: str, path: str | Path) -> None:
    """Weights of a file, exactly: timm renames and resamples what its family's files may hold, we list what is left.

    timm's own loading passes over what does not fit.
    """
    state = _renamed(weights.read(path))
    weights.check_numbers(state, path)
    if convert := getattr(_file_of(name), "checkpoint_filter_fn", None):
        with suppress(
            LookupError, AttributeError, RuntimeError, TypeError, ValueError
        ):  # of files that are no family's
            state = convert(dict(state), model)
    heads = model.pretrained_cfg.get("classifier") or ()
    heads = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
    weights.load_exactly(model, {key: value for key, value in state.items() if not key.startswith(heads)}, str(path))


def without_part(trunk: nn.Module, images: Tensor) -> Tensor:
    """The features of images; weights that have no part in them learn nothing."""
    was_training = trunk.training
    features: Tensor = trunk.eval()(images)
    trained = {name: weight for name, weight in trunk.named_parameters() if weight.requires_grad}
    used = torch.autograd.grad(features.sum(), [*trained.values()], allow_unused=True)
    for weight, gradient in zip(trained.values(), used, strict=True):
        weight.requires_grad_(gradient is not None)
    trunk.train(was_training)
    return features


class Normalised(nn.Module):
    """Images normalised by ImageNet's statistics as a model was trained to see them: one affine step."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.statistics: tuple[Sequence[float], Sequence[float]] = (
            model.pretrained_cfg["mean"],
            model.pretrained_cfg["std"],
        )
        scale, shift = _between_normalisations(*self.statistics)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


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
