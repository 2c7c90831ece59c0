"""How a run was asked for: the only thing beside its configuration that a command's task gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from omegaconf import DictConfig


def _unchanged(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    return cfg


class Request(NamedTuple):
    """What a command line asks for beyond the configuration that it composes."""

    overrides: tuple[str, ...] = ()  # KEY=VALUE, as typed
    job_folder: Path | None = None  # of this job of a sweep
    change: Callable[[DictConfig, Sequence[str]], DictConfig] = _unchanged  # a configuration by such overrides, checked


NOTHING_TYPED = Request()
