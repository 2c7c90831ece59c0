"""`python -m mpanet_pl.verify`: somebody's features and somebody's table -> whether the one gives the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpanet_pl.cli.command import door
from mpanet_pl.cli.mistakes import Arguments
from mpanet_pl.errors import RunStopped

EXPLANATION = """
FEATURES are what evaluate save_features=… writes, or anyone's (.npz, .npy, .parquet, a folder of *_cam1.mat …); RESULTS
is a run's folder or its results.json. Every reported number is recomputed and compared: means and deviations over
trials by their two digits, ends of intervals by 0.1 points, and how it was measured. KEY=VALUE is as for evaluate.
Exit code 0: all agree; 1: some differ."""


def main(arguments: Sequence[str] | None = None) -> None:
    with door("verify"):
        parser = Arguments("mpanet_pl.verify", description=EXPLANATION)
        parser.add_argument("features", metavar="FEATURES", type=Path, help="embeddings of test images")
        parser.add_argument("results", metavar="RESULTS", type=Path, help="the table that they should give")
        parser.add_argument("words", metavar="KEY=VALUE", nargs="*", help="such as dataset=sysu data_dir=…")
        parser.add_argument("--result", help="last, best, or another of the table's rows")
        typed = parser.parse_intermixed_args(arguments)
        verify(typed.features, typed.results, typed.words, typed.result)


def verify(features: Path, results: Path, words: Sequence[str] = (), result: str | None = None) -> None:
    """`words` are KEY=VALUE for `evaluate`."""
    from mpanet_pl.cli.application import compose_and_run
    from mpanet_pl.evaluation.tables import print_tables
    from mpanet_pl.run import verifying
    from mpanet_pl.run.evaluating import score_features

    reported, scored = verifying.read_reported(results), list[Any]()
    asked = [f"features={features}", *verifying.words_for(features, reported, list(words))]
    compose_and_run("evaluate", lambda cfg, request: scored.append(score_features(cfg, request)), asked)
    ((row, _, scores),) = scored
    found = verifying.verify(row, scores, reported, result)
    print_tables([found.table], [])
    if found.faults:
        listed = "\n  ".join(found.faults)
        raise RunStopped(f"{features} does not give what {results} reports:\n  {listed}")
    print(f"\nAll {found.agreeing} scores of {results} are what {features} gives.")


if __name__ == "__main__":
    main()
