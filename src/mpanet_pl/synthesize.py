"""`python -m mpanet_pl.synthesize`: draw a dataset of people in the layout of a real one, and a contact sheet of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def synthesize(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    from mpanet_pl.world import contact_sheet

    contact_sheet.synthesize(cfg)


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("synthesize", synthesize, arguments)


if __name__ == "__main__":
    main()
