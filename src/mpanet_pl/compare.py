"""`python -m mpanet_pl.compare`: results over the same queries -> which finds more, and whether that can be told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpanet_pl.cli.command import door
from mpanet_pl.cli.mistakes import Arguments
from mpanet_pl.errors import UserError

if TYPE_CHECKING:
    from mpanet_pl.run.methods_compared import Method

EXPLANATION = """
Each path is a run's folder, an evaluation's, a folder of runs that repeat one another (seeds, RegDB's trials), or
anyone's features (.npz, .npy, .parquet, a folder of *_cam1.mat …). Features are measured first, as evaluate does by the
words beside them: compare a.npz b.npz dataset=sysu data_dir=….

All are compared with the first, query by query: differences with their 95 % intervals over people (and over runs, where
there are several), a test that flips each person's difference at random, adjusted by Holm. What another split, protocol
or re-ranking measured is refused. One path alone: what its re-ranking finds more than the same without.

margin=2 asks two more questions, each with a p: is a method not worse than the first by 2 points, is it as good."""
MARGIN = re.compile(r"margin=(.*)")
WORD = re.compile(r"\w+(\.\w+)*=")


def main(arguments: Sequence[str] | None = None) -> None:
    with door("compare"):
        parser = Arguments("mpanet_pl.compare", description=EXPLANATION)
        parser.add_argument(
            "paths", metavar="RESULTS", type=Path, nargs="+", help="a run's folder, or one of repeats; or features"
        )
        parser.add_argument("--result", help="last (unless said) or best")
        parser.add_argument(
            "--into", metavar="DIR", type=Path, help="where comparison.md, .csv, .tex, .json and .png go, if anywhere"
        )
        typed = parser.parse_intermixed_args(arguments)
        words = [str(path) for path in typed.paths if WORD.match(str(path)) and not path.exists()]
        paths = [path for path in typed.paths if str(path) not in words]
        margins = [found[1] for word in words if (found := MARGIN.fullmatch(word))]
        words = [word for word in words if not MARGIN.fullmatch(word)]
        compare(paths, typed.result, typed.into, words, _points(margins[-1]) if margins else None)


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = -1.0
    if not 0 < points < 100:
        raise UserError(f"margin is a number of points above 0 and below 100, got {text}.")
    return points


def compare(
    paths: Sequence[Path],
    result: str | None = None,
    into: Path | None = None,
    words: Sequence[str] = (),
    margin: float | None = None,
) -> None:
    """`words` are KEY=VALUE for `evaluate`, by which features are measured; `margin` is in points."""
    from mpanet_pl.evaluation.tables import print_tables
    from mpanet_pl.run import comparison

    measured: list[Path] = []

    def measure(letter: str, path: Path) -> Method:
        measured.append(path)
        return _of_features(letter, path, words)

    found = comparison.compare_methods(paths, result, measure, margin)
    if words and not measured:
        raise UserError(f"{words[0]} says how features are measured, and there are none among these results.")
    if into:
        found.write(into)
    print_tables([found.table()], found.remarks())


def _of_features(letter: str, path: Path, words: Sequence[str]) -> Method:
    """Features scored by what `evaluate` would be told of them."""
    from mpanet_pl.cli.application import compose_and_run
    from mpanet_pl.run.evaluating import score_features
    from mpanet_pl.run.methods_compared import method_of_features

    scored: list[Any] = []
    compose_and_run(
        "evaluate", lambda cfg, request: scored.append(score_features(cfg, request)), [f"features={path}", *words]
    )
    return method_of_features(letter, path, *scored[0])


if __name__ == "__main__":
    main()
