"""`queries.npz`: what became of each query, kept beside a run's results for comparisons."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.digests import Met
from mpanet_pl.evaluation.outcomes import Outcomes
from mpanet_pl.evaluation.scoring import Scores
from mpanet_pl.system.files import written_aside

QUERIES = "queries.npz"


class Queries(NamedTuple):
    """What `write_queries` kept of a run."""

    rows: Mapping[str, Mapping[str, Outcomes]]  # "last" or "best" -> setting
    paths: tuple[str, ...]  # of the catalogue, by which other runs know the queries
    met: Mapping[str, Mapping[str, Met]] = {}  # like `rows`; releases before 0.3 kept no digests
    networks: Mapping[str, str] = {}  # digest of each row's network
    images: str | None = None  # digest of the test images


def write_queries(
    path: str | Path,
    rows: Mapping[str, Mapping[str, Scores]],
    paths: Sequence[str],
    *,
    networks: Mapping[str, str] | None = None,
    images: str | None = None,
) -> None:
    """Keep the outcomes of {"last" or "best": {setting: Scores}} beside a run's results."""
    kept: dict[str, np.ndarray] = {"paths": np.array(paths), "names": np.array([], dtype=str)}
    met: dict[str, dict[str, Met]] = {}
    for row, settings in rows.items():
        for setting, scores in settings.items():
            assert scores.outcomes is not None
            number = len(kept["names"])
            kept["names"] = np.append(kept["names"], f"{row} {setting}")
            if scores.met:
                met.setdefault(row, {})[setting] = scores.met
            for field, column in scores.outcomes._asdict().items():
                small = column.float() if column.is_floating_point() else column.int()
                kept[f"{number}.{field}"] = small.numpy()
    kept["digests"] = np.array(json.dumps({"met": met, "networks": networks or {}, "images": images}))
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **kept)  # type: ignore[arg-type]  # whose stub sees its own keywords in them


def read_queries(path: str | Path) -> Queries:
    """What `write_queries` left; anything else is a `UserError`."""
    rows: dict[str, dict[str, Outcomes]] = {}
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            paths = tuple(stored["paths"].tolist())
            for number, name in enumerate(stored["names"].tolist()):
                row, setting = name.split(" ", 1)
                columns = (torch.from_numpy(stored[f"{number}.{field}"]) for field in Outcomes._fields)
                rows.setdefault(row, {})[setting] = _checked(Outcomes(*map(_wide, columns)), len(paths))
            digests = json.loads(str(stored["digests"])) if "digests" in stored else {}
            met = {
                row: {setting: Met(queries, people, tuple(each)) for setting, (queries, people, each) in of.items()}
                for row, of in digests.get("met", {}).items()
            }
            return Queries(rows, paths, met, digests.get("networks", {}), digests.get("images"))
    except FileNotFoundError:
        raise UserError(f"There is no {path}: the run was tested before 0.2, or did not come to its end.") from None
    except Exception as fault:  # a damaged file fails in the parser in a dozen ways
        raise UserError(f"{path} cannot be read as the queries of a run: {fault}") from fault


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
