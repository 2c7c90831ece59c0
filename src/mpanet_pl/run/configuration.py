"""A run's configuration: what was asked for in plain containers, and whom it may call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from mpanet_pl.run.request import NOTHING_TYPED as NOTHING_TYPED
from mpanet_pl.run.request import Request as Request
from mpanet_pl.system.trust import check


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration in plain containers, interpolations kept."""
    container = OmegaConf.to_container(cfg)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def check_targets(
    cfg: DictConfig, source: str, trust: str | Sequence[str] | None = (), known: Iterable[str] = ()
) -> None:
    """Refuse a configuration that would call anything but classes of this package, or of those that its reader trusts.

    Looked at with everything resolved, as it will be used: an interpolation can hide a call.
    """
    trusted = OmegaConf.to_container(trust) if isinstance(trust, ListConfig) else trust
    check(OmegaConf.to_container(cfg, resolve=True), source, trusted, known)  # type: ignore[arg-type]
