"""`queries.npz`: what became of each query, kept beside a run's results for comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.outcomes import Outcomes
from mpanet_pl.evaluation.scoring import Scores
from mpanet_pl.system.files import written_aside

QUERIES = "queries.npz"


def write_queries(path: str | Path, rows: Mapping[str, Mapping[str, Scores]], paths: Sequence[str]) -> None:
    """Keep the outcomes of {"last" or "best": {setting: Scores}} beside a run's results.

    `paths` are the catalogue's, by which other runs know the queries.
    """
    kept: dict[str, np.ndarray] = {"paths": np.array(paths), "names": np.array([], dtype=str)}
    for row, settings in rows.items():
        for setting, scores in settings.items():
            assert scores.outcomes is not None
            number = len(kept["names"])
            kept["names"] = np.append(kept["names"], f"{row} {setting}")
            for field, column in scores.outcomes._asdict().items():
                small = column.float() if column.is_floating_point() else column.int()
                kept[f"{number}.{field}"] = small.numpy()
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **kept)  # type: ignore[arg-type]  # whose stub sees its own keywords in them


def read_queries(path: str | Path) -> tuple[dict[str, dict[str, Outcomes]], tuple[str, ...]]:
    """The outcomes and the catalogue's paths that `write_queries` left; anything else is a `UserError`."""
    rows: dict[str, dict[str, Outcomes]] = {}
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            paths = tuple(stored["paths"].tolist())
            for number, name in enumerate(stored["names"].tolist()):
                row, setting = name.split(" ", 1)
                columns = (torch.from_numpy(stored[f"{number}.{field}"]) for field in Outcomes._fields)
                rows.setdefault(row, {})[setting] = _checked(Outcomes(*map(_wide, columns)), len(paths))
    except FileNotFoundError:
        raise UserError(f"There is no {path}: the run was tested before 0.2, or did not come to its end.") from None
    except Exception as fault:  # whatever a parser of garbage stumbles over: there is no end to the kinds
        raise UserError(f"{path} cannot be read as the queries of a run: {fault}") from fault
    return rows, paths


def _wide(column: Tensor) -> Tensor:
    return column.double() if column.is_floating_point() else column.long()


def _checked(outcomes: Outcomes, images: int) -> Outcomes:
    trials, queries = outcomes.first.shape
    shapes = [(queries,), (queries,), *[(trials, queries)] * 3]
    if [tuple(column.shape) for column in outcomes] != shapes:
        raise ValueError("its columns are of different lengths")
    if queries and not 0 <= int(outcomes.queries.min()) <= int(outcomes.queries.max()) < images:
        raise ValueError("it names queries that it does not list")
    return outcomes
