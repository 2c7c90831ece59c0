"""`python -m mpanet_pl.train`: train MPANet, test its last and its best epoch, print the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train(cfg: DictConfig, request: Request = NOTHING_TYPED) -> float | None:
    """What a sweeper is to make large: see `mpanet_pl.run.training.train`."""
    from mpanet_pl.run import training
    from mpanet_pl.world.ground_truth import ground_truth_of

    return training.train(cfg, request, ground_truth_of)


def main(arguments: Sequence[str] | None = None) -> None:
    run_command("train", train, arguments)


if __name__ == "__main__":
    main()
