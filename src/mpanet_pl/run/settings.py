"""A run's configuration: what was asked for in plain containers."""

from contextlib import suppress
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mpanet_pl.system.keys import leaves

RECIPES = ("recipe", "recipes")


def plain(cfg: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    """The configuration in plain containers, interpolations kept or replaced by their values."""
    container = OmegaConf.to_container(cfg, resolve=resolve)
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


def without_recipes(cfg: DictConfig) -> DictConfig:
    """Without the recipes that a method's file chooses from: values that refer to them stand for themselves.

    >>> cfg = OmegaConf.create({"recipes": {"x": {"lr": 0.1}}, "recipe": "${recipes.x}", "lr": "${recipe.lr}"})
    >>> without_recipes(cfg)
    {'lr': 0.1}
    """
    own = OmegaConf.create({key: value for key, value in plain(cfg).items() if key not in RECIPES})
    for key, value in leaves(plain(own)):
        if any(f"${{{name}." in str(value) for name in RECIPES):
            found = OmegaConf.select(cfg, key)
            OmegaConf.update(own, key, OmegaConf.to_container(found) if OmegaConf.is_config(found) else found)
    OmegaConf.set_struct(own, OmegaConf.is_struct(cfg))
    return own
