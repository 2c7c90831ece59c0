"""`python -m mpanet_pl.train`: train MPANet, test its last and its best epoch, print the table."""

from omegaconf import DictConfig

from mpanet_pl.cli.command import run_command
from mpanet_pl.run import training
from mpanet_pl.run.configuration import NOTHING_TYPED, Request
from mpanet_pl.world.knowledge import know


def train(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    training.train(cfg, request, know)


def main() -> None:
    run_command("train", train)


if __name__ == "__main__":
    main()
