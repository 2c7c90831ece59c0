"""`python -m mpanet_pl.summarize`: a folder of runs -> one table, mean ± standard deviation over what was repeated."""

from collections.abc import Sequence
from pathlib import Path

from mpanet_pl.cli.command import door
from mpanet_pl.cli.mistakes import Arguments

EXPLANATION = """
Every run below the folders is read: the ten trials of RegDB, several seeds, a sweep. Runs of one dataset and one
configuration that ran alike are a group, whatever their trial and seed, and each group is averaged, and compared with
the first where both were asked the same queries. Runs that did not finish are listed; trials that are missing or there
twice are said. The table is printed and left in the first folder as index.html (a
leaderboard with cost and links), summary.md, summary.csv and summary.json."""


def main(arguments: Sequence[str] | None = None) -> None:
    with door("summarize"):
        parser = Arguments("mpanet_pl.summarize", description=EXPLANATION)
        parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="a folder of runs, such as runs/")
        summarize(parser.parse_args(arguments).folders)


def summarize(folders: Sequence[Path]) -> None:
    from mpanet_pl.run import summary

    found = summary.summarize(folders)
    found.write(folders[0])
    found.print()


if __name__ == "__main__":
    main()
