"""Queries and galleries of two kinds: the same images clean and corrupted, where one side of a search is corrupted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import COLUMNS, Catalogue
from mpanet_pl.evaluation.among import Around
from mpanet_pl.evaluation.outcomes import Outcomes
from mpanet_pl.evaluation.scoring import Scores, evaluate
from mpanet_pl.interfaces import RetrievalProtocol, Search

ROLES = ("queries", "gallery")


class ByRole(Around):
    """A protocol on N clean images and behind them the same N corrupted ones, from which one `role` is taken."""

    def __init__(self, protocol: RetrievalProtocol, count: int, role: str) -> None:
        super().__init__(protocol)
        self.count, self.role = count, role

    def searches(self, catalogue: Catalogue) -> list[Search]:
        moved = {role: self.count if role == self.role else 0 for role in ROLES}
        own = catalogue[torch.arange(self.count)]
        return [
            Search(
                search.queries + moved["queries"],
                {name: [rows + moved["gallery"] for rows in trials] for name, trials in search.galleries.items()},
                search.measured_by,
            )
            for search in self.base.searches(own)
        ]


def evaluate_by_role(
    clean: Tensor, corrupted: Tensor, catalogue: Catalogue, protocol: RetrievalProtocol, role: str
) -> dict[str, Scores]:
    """Scores where the images of one role are corrupted: embeddings (N, D) of the same images clean and corrupted."""
    both = ByRole(protocol, len(catalogue), role)
    return evaluate(torch.cat([clean, corrupted]), twice(catalogue), both)


def twice(catalogue: Catalogue) -> Catalogue:
    columns = {name: column for name in COLUMNS if (column := getattr(catalogue, name)) is not None}
    again = {name: torch.cat([column, column]) for name, column in columns.items()}
    sources = None if catalogue.sources is None else catalogue.sources * 2
    return replace(catalogue, paths=catalogue.paths * 2, sources=sources, **again)


def over_draws(draws: Sequence[Mapping[str, Scores]]) -> dict[str, Scores]:
    """Each setting's scores with every draw of the corruptions as further trials, so that its means are over draws."""
    joined = {}
    for setting, first in draws[0].items():
        found = [scores[setting].outcomes for scores in draws]
        outcomes = [one for one in found if one is not None]
        columns = zip(*(one[2:] for one in outcomes), strict=True)
        whole = Outcomes(*outcomes[0][:2], *(torch.cat(column) for column in columns))
        joined[setting] = Scores.of(whole, first.measured)
    return joined
