"""What became of each query: the places that scores are means of, kept for intervals, comparisons and slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.system.files import written_aside

if TYPE_CHECKING:
    from mpanet_pl.evaluation.scoring import Scores

QUERIES = "queries.npz"
RANKS = {"r1": 1, "r5": 5, "r10": 10, "r20": 20}
RERANKED = " + "  # between a setting and the re-ranking that follows it
NAMES = (*RANKS, "mAP", "mINP")  # the scores, in the order in which everything lists them


class Outcomes(NamedTuple):
    """Of the M queries that have a true match in some of T trials."""

    queries: Tensor  # (M,) int64, rows of the catalogue
    identities: Tensor  # (M,) int64
    first: Tensor  # (T, M) int64, place of the first true match, from 1; 0 where the trial holds none
    average_precision: Tensor  # (T, M) float64
    inverse_negative_penalty: Tensor  # (T, M) float64

    def values(self) -> Tensor:
        """(T, M, 6): what each query adds to each of `NAMES`, shares of one."""
        found = [(self.first > 0) & (self.first <= k) for k in RANKS.values()]
        return torch.stack([*(hit.double() for hit in found), self.average_precision, self.inverse_negative_penalty], 2)

    def of(self, chosen: Tensor) -> Outcomes:
        """The same of some of the queries (a mask or places)."""
        return Outcomes(self.queries[chosen], self.identities[chosen], *(column[:, chosen] for column in self[2:]))


class People(NamedTuple):
    """What each of I people adds to scores: `sums` over `sizes`, both summed over people, are the scores."""

    identities: Tensor  # (I,) int64, ascending
    sums: Tensor  # (I, 6) float64
    sizes: Tensor  # (I,) float64, which sum to one


def by_person(outcomes: Outcomes) -> People:
    """Each trial counts alike, and in each trial each of its queries."""
    identities, place = outcomes.identities.unique(return_inverse=True)
    matched = (outcomes.first > 0).double()  # (T, M)
    share = matched / matched.sum(1, keepdim=True) / len(matched)
    sums = torch.zeros(len(identities), len(NAMES), dtype=torch.float64)
    sums.index_add_(0, place, (outcomes.values() * share[..., None]).sum(0))
    return People(
        identities, sums, torch.zeros(len(identities), dtype=torch.float64).index_add_(0, place, share.sum(0))
    )


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
