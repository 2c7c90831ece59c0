"""`python -m mpanet_pl.compare`: results over the same queries -> which finds more, and whether that can be told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mpanet_pl.cli.command import door

EXPLANATION = """
Each path is a run's folder, an evaluation's (of a checkpoint, or of anyone's features by evaluate features=…), or a
folder of runs that repeat one another: seeds, RegDB's trials. All are compared with the first, query by query:
differences with their 95 % intervals over people (and over runs, where there are several), a test that flips each
person's difference at random, adjusted by Holm. What another split, protocol or re-ranking measured is refused."""


def main(arguments: Sequence[str] | None = None) -> None:
    with door("compare"):
        parser = argparse.ArgumentParser("mpanet_pl.compare", description=EXPLANATION)
        parser.add_argument("paths", metavar="RESULTS", type=Path, nargs="+", help="a run's folder, or one of repeats")
        parser.add_argument("--result", help="last (unless said) or best")
        parser.add_argument(
            "--into", metavar="DIR", type=Path, help="where comparison.md, .json and .png go, if anywhere"
        )
        typed = parser.parse_args(arguments)
        compare(typed.paths, typed.result, typed.into)


def compare(paths: Sequence[Path], result: str | None = None, into: Path | None = None) -> None:
    from mpanet_pl.evaluation.tables import print_tables
    from mpanet_pl.run import comparing

    found = comparing.compare_methods(paths, result)
    if into:
        found.write(into)
    print_tables([found.table()], found.remarks())


if __name__ == "__main__":
    main()
