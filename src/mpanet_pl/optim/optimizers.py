"""Optimisers by name, or the user's own; a pretrained trunk may have a learning rate of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mpanet_pl.errors import UserError
from mpanet_pl.system.targets import TARGET, build

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
LR = 1e-3  # torch's default for each of them


def build_optimizer(module: nn.Module, settings: Mapping[str, Any], *, fused: bool = True) -> Optimizer:
    """Over the weights of `module` that learn.

    `settings` hold `name` (adam, adamw or sgd; adam unless given) or `_target_`, the optimiser's own keywords, and
    `trunk_lr`, the learning rate of `network.trunk`'s weights where it is another. None leaves a keyword out. `fused`
    is whether a named one steps fused where the settings do not say.

    Examples:
        >>> build_optimizer(nn.Linear(2, 1), {"name": "sgd", "lr": 0.1, "momentum": 0.9}).param_groups[0]["momentum"]
        0.9
    """
    given = {key: value for key, value in settings.items() if value is not None}
    if wrong := [
        f"{key}={value}" for key, value in given.items() if isinstance(value, float) and not math.isfinite(value)
    ]:
        raise UserError(f"model.optimizer takes finite numbers, got {', '.join(wrong)}.")
    groups = _groups(module, given.pop("trunk_lr", None))
    if TARGET in given:
        own = build(given, "model.optimizer", groups)
        if not isinstance(own, Optimizer):
            raise UserError(f"model.optimizer: {given[TARGET]} is no torch.optim.Optimizer.")
        return own
    name = given.pop("name", "adam")
    if name not in OPTIMIZERS:
        raise UserError(f"model.optimizer.name is one of {', '.join(OPTIMIZERS)}, got {name}.")
    given.setdefault("fused", fused)
    if not isinstance(given["fused"], bool):
        raise UserError(f"model.optimizer.fused is true, false or null, got {given['fused']}.")
    try:
        optimizer = OPTIMIZERS[name](groups, **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"model.optimizer is refused: {error}") from error
    optimizer.register_load_state_dict_pre_hook(partial(_keep_fused, given["fused"]))
    return optimizer


def _groups(module: nn.Module, trunk_lr: float | None) -> list[dict[str, Any]]:
    """One group; or what is new first and the trunk, but for the alleviation in it, second."""
    trained = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    if trunk_lr is None:
        return [{"params": [*trained.values()]}]
    if not trunk_lr >= 0:
        raise UserError(f"model.optimizer.trunk_lr is 0 or more, got {trunk_lr}.")
    trunk = [name for name in trained if name.startswith("network.trunk.") and ".alleviation." not in name]
    if not trunk:
        raise UserError("model.optimizer.trunk_lr is of the weights of network.trunk, and this network has none.")
    others = [trained[name] for name in trained if name not in set(trunk)]
    return [{"params": others}, {"params": [trained[name] for name in trunk], "lr": trunk_lr}]


def _keep_fused(fused: bool, _: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A state from before gradients were clipped, or were no longer, does not say how this optimiser steps."""
    return {**state, "param_groups": [{**group, "fused": fused} for group in state["param_groups"]]}
