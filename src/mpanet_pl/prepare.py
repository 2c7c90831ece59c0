"""`python -m mpanet_pl.prepare`: check a dataset whole, report everything wrong with it at once, build its cache."""

from mpanet_pl.cli.command import run_command
from mpanet_pl.run.preparation import prepare


def main() -> None:
    run_command("prepare", prepare)


if __name__ == "__main__":
    main()
