"""A run's configuration: what was asked for in plain containers, and whom it may call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from mpanet_pl.errors import UserError
from mpanet_pl.run.request import NOTHING_TYPED as NOTHING_TYPED
from mpanet_pl.run.request import Request as Request


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration in plain containers, interpolations kept."""
    container = OmegaConf.to_container(cfg)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def check_targets(cfg: DictConfig, source: str, trust: Sequence[str] = ()) -> None:
    """Refuse a configuration that would call anything but classes of this package, or of those that its reader trusts.

    Looked at with everything resolved, as it will be used: an interpolation can hide a call.
    """
    targets = sorted(set(_targets(OmegaConf.to_container(cfg, resolve=True))))
    if foreign := [target for target in targets if not _is_class_of(target, ("mpanet_pl", *trust))]:
        raise UserError(f"{source} is refused: its configuration would call {', '.join(foreign)}.")


def _is_class_of(target: str, packages: Sequence[str]) -> bool:
    """Whether a dotted name is that of a class which one of these packages defines itself."""
    if target.partition(".")[0] not in packages:
        return False
    try:
        named = get_object(target)
    except (ImportError, AttributeError, ValueError):
        return False
    return isinstance(named, type) and named.__module__.partition(".")[0] in packages


def _targets(tree: Any) -> Iterator[str]:
    """Whatever a configuration names to be called, anywhere in it."""
    if isinstance(tree, Mapping):
        if "_target_" in tree:
            yield str(tree["_target_"])
        tree = list(tree.values())
    if isinstance(tree, list):
        for branch in tree:
            yield from _targets(branch)
