"""A run's configuration: what was asked for in plain containers, and whom it may call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mpanet_pl.errors import UserError
from mpanet_pl.run.request import NOTHING_TYPED as NOTHING_TYPED
from mpanet_pl.run.request import Request as Request
from mpanet_pl.system.trust import check


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


def check_targets(
    cfg: DictConfig, source: str, trust: str | Sequence[str] | None = (), known: Iterable[str] = ()
) -> None:
    """Refuse a configuration that would call anything but classes of this package, or of those that its reader trusts.

    Looked at with everything resolved, as it will be used: an interpolation can hide a call.
    """
    if calls := sorted(set(_calling(OmegaConf.to_container(cfg)))):
        raise UserError(f"{source} is refused: its configuration would look up {', '.join(calls)} on this machine.")
    check(OmegaConf.to_container(cfg, resolve=True), source, packages(trust), known)


def packages(trust: str | Sequence[str] | None) -> list[str]:
    """One or several, as they were typed."""
    return [trust] if isinstance(trust, str) else [str(name) for name in trust or ()]


def _calling(tree: Any) -> Iterator[str]:
    """Interpolations that run a resolver (`${oc.env:HOME}`) rather than name another key."""
    if isinstance(tree, str):
        yield from re.findall(r"\$\{[^${}]*:[^{}]*\}?", tree)
    for branch in tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list) else ():
        yield from _calling(branch)
