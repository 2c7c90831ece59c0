"""`python -m mpanet_pl.prepare`: check a dataset whole, report everything wrong with it at once, build its cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def prepare(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.run import preparation

    preparation.prepare(cfg, request)


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("prepare", prepare, arguments)


if __name__ == "__main__":
    main()
