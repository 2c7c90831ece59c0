"""`python -m mpanet_pl.summarize`: a folder of runs -> one table, mean ± standard deviation over what was repeated."""

import argparse
import sys
from pathlib import Path

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.tables import print_tables
from mpanet_pl.run.summary import summarize

EXPLANATION = """
Every run below the folders is read: the ten trials of RegDB, several seeds, a sweep. Runs of one dataset and one
configuration are a group, whatever their trial and seed, and each group is averaged. Runs that did not finish are
listed; trials that are missing or there twice are said. The table is printed and left in the first folder as
summary.md, summary.csv and summary.json."""


def main() -> None:
    parser = argparse.ArgumentParser("mpanet_pl.summarize", description=EXPLANATION)
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="a folder of runs, such as runs/")
    folders = parser.parse_args().folders
    try:
        summary = summarize(folders)
        summary.write(folders[0])
    except (UserError, OSError) as mistake:
        print(f"summarize: {mistake}", file=sys.stderr)
        sys.exit(2)
    print_tables(summary.tables(), summary.remarks())


if __name__ == "__main__":
    main()
