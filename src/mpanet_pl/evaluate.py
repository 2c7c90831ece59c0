"""`python -m mpanet_pl.evaluate`: test a checkpoint, this package's or a released one, or embeddings saved before."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpanet_pl.cli.command import run_command
from mpanet_pl.errors import UserError
from mpanet_pl.run.request import NOTHING_TYPED, Request

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    if (cfg.ckpt is None) == (cfg.features is None):
        raise UserError("Add ckpt=PATH, a checkpoint, or else features=PATH, embeddings saved before.")
    from mpanet_pl.run import evaluating
    from mpanet_pl.world.knowledge import know

    evaluating.evaluate(cfg, request, know)


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    arguments = [re.sub(r"^protocol=(open_set|mixed)$", r"measure=\1", argument) for argument in arguments]
    if not any(argument.startswith("dataset=") for argument in arguments):  # then the checkpoint brings these keys
        arguments = [re.sub(r"^(protocol|data\.dataset)\.", r"+\g<0>", argument) for argument in arguments]
    run_command("evaluate", evaluate, arguments)


if __name__ == "__main__":
    main()
