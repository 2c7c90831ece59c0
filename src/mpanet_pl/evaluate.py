"""`python -m mpanet_pl.evaluate`: test a checkpoint, this package's or a released one, or embeddings saved before."""

import re
import sys

from omegaconf import DictConfig

from mpanet_pl.cli.command import run_command
from mpanet_pl.run import evaluating
from mpanet_pl.run.configuration import NOTHING_TYPED, Request
from mpanet_pl.world.knowledge import know


def evaluate(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    evaluating.evaluate(cfg, request, know)


def main() -> None:
    if not any(argument.startswith("dataset=") for argument in sys.argv):  # then the checkpoint brings these keys
        sys.argv[1:] = [re.sub(r"^(protocol|data\.dataset)\.", r"+\g<0>", argument) for argument in sys.argv[1:]]
    run_command("evaluate", evaluate)


if __name__ == "__main__":
    main()
