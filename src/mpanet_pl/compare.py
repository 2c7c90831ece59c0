"""`python -m mpanet_pl.compare`: results over the same queries -> which finds more, and whether that can be told."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

from mpanet_pl.cli.command import door
from mpanet_pl.errors import UserError

EXPLANATION = """
Each path is a run's folder, an evaluation's, a folder of runs that repeat one another (seeds, RegDB's trials), or
anyone's features (.npz, .npy, .parquet, a folder of *_cam1.mat …). Features are measured first, as evaluate does by the
words beside them: compare a.npz b.npz dataset=sysu data_dir=….

All are compared with the first, query by query: differences with their 95 % intervals over people (and over runs, where
there are several), a test that flips each person's difference at random, adjusted by Holm. What another split, protocol
or re-ranking measured is refused. One path alone: what its re-ranking finds more than the same without."""
WORD = re.compile(r"\w+(\.\w+)*=")


def main(arguments: Sequence[str] | None = None) -> None:
    with door("compare"):
        parser = argparse.ArgumentParser("mpanet_pl.compare", description=EXPLANATION)
        parser.add_argument(
            "paths", metavar="RESULTS", type=Path, nargs="+", help="a run's folder, or one of repeats; or features"
        )
        parser.add_argument("--result", help="last (unless said) or best")
        parser.add_argument(
            "--into", metavar="DIR", type=Path, help="where comparison.md, .json and .png go, if anywhere"
        )
        typed = parser.parse_intermixed_args(arguments)
        words = [str(path) for path in typed.paths if WORD.match(str(path)) and not path.exists()]
        paths = [path for path in typed.paths if str(path) not in words]
        compare(paths, typed.result, typed.into, words)


def compare(
    paths: Sequence[Path], result: str | None = None, into: Path | None = None, words: Sequence[str] = ()
) -> None:
    """`words` are KEY=VALUE for `evaluate`, by which features are measured."""
    from mpanet_pl.evaluation.tables import print_tables
    from mpanet_pl.run import comparing

    with TemporaryDirectory() as folder:
        found = comparing.compare_methods(paths, result, partial(_measured, words, Path(folder)))
        if words and not any(Path(folder).iterdir()):
            raise UserError(f"{words[0]} says how features are measured, and there are none among these results.")
    if into:
        found.write(into)
    print_tables([found.table()], found.remarks())


def _measured(words: Sequence[str], folder: Path, features: Path) -> Path:
    """A folder below this one with the results of these features."""
    from mpanet_pl.cli.application import compose_and_run
    from mpanet_pl.evaluate import evaluate

    own = folder / str(len(list(folder.iterdir())))
    with redirect_stdout(StringIO()):
        compose_and_run("evaluate", evaluate, [f"features={features}", f"run_dir={own}", *words])
    return own


if __name__ == "__main__":
    main()
