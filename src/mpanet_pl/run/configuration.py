"""A run's configuration: what was asked for in plain containers, and whom it may call."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from mpanet_pl.run.request import NOTHING_TYPED as NOTHING_TYPED
from mpanet_pl.run.request import Request as Request
from mpanet_pl.system.trust import check_targets as check_targets
from mpanet_pl.system.trust import packages as packages


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
