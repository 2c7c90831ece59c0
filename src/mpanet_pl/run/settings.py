"""A run's configuration: what was asked for in plain containers, and whom it may call."""

from contextlib import suppress
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mpanet_pl.run.request import NOTHING_TYPED as NOTHING_TYPED
from mpanet_pl.run.request import Request as Request
from mpanet_pl.system.keys import leaves
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


def resolved_where_known(cfg: DictConfig) -> dict[str, Any]:
    """The configuration in plain containers, interpolations replaced where what they refer to is there already."""
    known = OmegaConf.create(plain(cfg))
    for key, value in leaves(plain(cfg)):
        if "${" in str(value):
            with suppress(OmegaConfBaseException):
                OmegaConf.update(known, key, OmegaConf.select(cfg, key), merge=False)
    return plain(known)


def settled(cfg: DictConfig) -> DictConfig:
    """Without the recipes that a method's file chooses from: values that refer to them stand for themselves.

    >>> cfg = OmegaConf.create({"recipes": {"x": {"lr": 0.1}}, "recipe": "${recipes.x}", "lr": "${recipe.lr}"})
    >>> settled(cfg)
    {'lr': 0.1}
    """
    own = OmegaConf.create({key: value for key, value in plain(cfg).items() if key not in RECIPES})
    for key, value in leaves(plain(own)):
        if any(f"${{{name}." in str(value) for name in RECIPES):
            found = OmegaConf.select(cfg, key)
            OmegaConf.update(own, key, OmegaConf.to_container(found) if OmegaConf.is_config(found) else found)
    OmegaConf.set_struct(own, OmegaConf.is_struct(cfg))
    return own
