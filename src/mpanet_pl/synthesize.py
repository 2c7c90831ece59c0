"""`python -m mpanet_pl.synthesize`: draw a dataset of people in the layout of a real one, and a contact sheet of it."""

from mpanet_pl.cli.command import run_command
from mpanet_pl.world.contact_sheet import synthesize


def main() -> None:
    run_command("synthesize", synthesize)


if __name__ == "__main__":
    main()
