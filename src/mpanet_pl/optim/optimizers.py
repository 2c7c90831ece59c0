"""Optimisers by name, or the user's own; parts of the module may have learning rates of their own."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import torch
from torch import nn
from torch.optim import Optimizer

from mpanet_pl.errors import UserError
from mpanet_pl.system.hints import Part, Range
from mpanet_pl.system.ranges import Positive, Share, Weight, keys_of, read_all
from mpanet_pl.system.targets import TARGET, build

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
TRUNK = "network.trunk"
LR = 1e-3  # torch's default for each of them
BETAS = Annotated[tuple[float, ...], Range("numbers from 0 to below 1", lambda betas: all(0 <= b < 1 for b in betas))]
KEYS = Part(
    OPTIMIZERS,
    by="name",
    default="adam",
    besides={
        "lr": Positive,
        "lr_of": Mapping[str, Any],
        "trunk_lr": Weight,
        "weight_decay": Weight,
        "momentum": Share,
        "betas": BETAS,
        "eps": Positive,
        "fused": bool,
    },
)


def build_optimizer(module: nn.Module, settings: Mapping[str, Any], *, fused: bool = True) -> Optimizer:
    """Over the weights of `module` that learn.

    `settings` hold `name` (adam, adamw or sgd; adam unless given) or `_target_`, and the optimiser's own keywords.
    `lr_of` maps parts of the module, `{network: {neck: 0.1}, criterion: 0.1}`, to learning rates of their own; the
    innermost part decides. `trunk_lr` is short for one: `network.trunk`, but for the alleviation in the trunk. None
    leaves a keyword out. `fused` is whether a named optimiser steps fused where the settings do not say.

    Examples:
        >>> build_optimizer(nn.Linear(2, 1), {"name": "sgd", "lr": 0.1, "momentum": 0.9}).param_groups[0]["momentum"]
        0.9
    """
    given = {key: value for key, value in settings.items() if value is not None}
    if TARGET not in given:
        read_all(keys_of(KEYS, given)[0], given, "model.optimizer.")
    groups = _groups(module, _rates(given.pop("lr_of", None), given.pop("trunk_lr", None)))
    if TARGET in given:
        own = build(given, "model.optimizer", groups)
        if not isinstance(own, Optimizer):
            raise UserError(f"model.optimizer: {given[TARGET]} is no torch.optim.Optimizer.")
        return own
    name = given.pop("name", "adam")
    given.setdefault("fused", fused)
    try:
        optimizer = OPTIMIZERS[name](groups, **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"model.optimizer is refused: {error}") from error
    optimizer.register_load_state_dict_pre_hook(partial(_keep_fused, given["fused"]))
    return optimizer


def _groups(module: nn.Module, rates: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """What no rate of its own is given to first, then each part that has one."""
    parts: dict[str | None, list[nn.Parameter]] = {None: [], **{part: [] for part in rates}}
    for name, weight in module.named_parameters():
        if weight.requires_grad:
            within = [part for part in rates if _is_within(name, part)]
            parts[max(within, key=len, default=None)].append(weight)
    for part in rates:
        _check_part(module, part)
    shared = [None, *(part for part, rate in rates.items() if rate is None)]
    groups: list[dict[str, Any]] = [{"params": [weight for part in shared for weight in parts[part]]}]
    groups += [{"params": parts[part], "lr": rate} for part, rate in rates.items() if rate is not None]
    return [group for group in groups if group["params"]]


def _rates(lr_of: Any, trunk_lr: float | None) -> dict[str, float | None]:
    """Learning rates by the beginnings of names; None is everyone's."""
    read_all({"lr_of": Mapping[str, Any] | None}, {"lr_of": lr_of}, "model.optimizer.")
    of_parts = _flat(lr_of or {})
    read_all(dict.fromkeys(of_parts, Weight | None), dict(of_parts), "model.optimizer.lr_of.")
    return ({} if trunk_lr is None else {TRUNK: trunk_lr, f"{TRUNK}.alleviation": None}) | of_parts


def _flat(nested: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """
    >>> _flat({"network": {"neck": 0.1}, "criterion": 0.2})
    {'network.neck': 0.1, 'criterion': 0.2}
    """
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return flat


def _check_part(module: nn.Module, part: str) -> None:
    if part == f"{TRUNK}.alleviation":
        return  # a trunk may have none
    named = {name: weight for name, weight in module.named_parameters() if _is_within(name, part)}
    if not named:
        known = ", ".join(
            f"{name}.{child}" for name, half in module.named_children() for child, _ in half.named_children()
        )
        raise UserError(f"model.optimizer: {part} has a learning rate, and no weights. There are {known}.")
    if not any(weight.requires_grad for weight in named.values()):
        raise UserError(
            f"model.optimizer: {part} has a learning rate, but all of its {len(named)} weights are frozen "
            "(requires_grad=False): drop the rate, or let them learn."
        )


def _is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _keep_fused(fused: bool, _: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A state from before gradients were clipped, or were no longer, does not say how this optimiser steps."""
    return {**state, "param_groups": [{**group, "fused": fused} for group in state["param_groups"]]}
