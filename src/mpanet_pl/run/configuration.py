"""A run's configuration: what was asked for in plain containers, and whom it may call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mpanet_pl.run.request import NOTHING_TYPED as NOTHING_TYPED
from mpanet_pl.run.request import Request as Request
from mpanet_pl.system.keys import is_within, leaves
from mpanet_pl.system.trust import check_targets as check_targets
from mpanet_pl.system.trust import packages as packages

RECIPES = ("recipe", "recipes")


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration in plain containers, interpolations kept."""
    container = OmegaConf.to_container(cfg)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration in plain containers, every interpolation replaced by its value."""
    container = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def settled(cfg: DictConfig) -> DictConfig:
    """Without the recipes that a method's file chooses from: values that refer to them stand for themselves.

    >>> cfg = OmegaConf.create({"recipes": {"x": {"lr": 0.1}}, "recipe": "${recipes.x}", "lr": "${recipe.lr}"})
    >>> settled(cfg)
    {'lr': 0.1}
    """
    own = OmegaConf.create({key: value for key, value in plain(cfg).items() if key not in RECIPES})
    for key in _referring(plain(own)):
        value = OmegaConf.select(cfg, key)
        OmegaConf.update(own, key, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)
    OmegaConf.set_struct(own, OmegaConf.is_struct(cfg))
    return own


def _referring(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys of the values that refer to recipes."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _referring(value, f"{prefix}{key}.")
        elif isinstance(value, str) and any(f"${{{name}." in value for name in RECIPES):
            yield f"{prefix}{key}"
