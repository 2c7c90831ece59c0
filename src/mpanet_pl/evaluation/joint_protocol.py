"""Several datasets tested at once: each by its own protocol, as if the others were not there."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue, Dataset
from mpanet_pl.data.joint import CAMERAS, Joint, own_part, whose
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.among import Around
from mpanet_pl.evaluation.protocols import RetrievalProtocol, Search, protocol_of


class JointProtocol(RetrievalProtocol):
    """The settings of each dataset's protocol, under the dataset's name: `sysu/all/single`, `regdb/visible_to_thermal`.

    members: protocols by the dataset's name.
    places: the dataset's number in the joint catalogue, from 1.
    """

    draw = "each dataset by its own protocol"

    def __init__(self, members: Mapping[str, RetrievalProtocol], places: Mapping[str, int]) -> None:
        self.members, self.places = members, places

    @classmethod
    def of(cls, dataset: Dataset, **settings: Any) -> Self:
        if not isinstance(dataset, Joint):
            raise UserError("JointProtocol is for dataset=joint: other datasets have their own.")
        places = {name: place for place, name in enumerate(dataset.names, start=1)}
        return cls({name: protocol_of(dataset.members[name]) for name in dataset.names}, places)

    def elsewhere(self) -> Self:
        return type(self)({name: member.elsewhere() for name, member in self.members.items()}, self.places)

    def searches(self, catalogue: Catalogue) -> list[Search]:
        found = []
        for name, member in self.members.items():
            rows, own = own_part(catalogue, name, self.places[name])
            for search in member.searches(own) if len(rows) else []:
                galleries = {
                    f"{name}/{setting}": [rows[gallery] for gallery in trials]
                    for setting, trials in search.galleries.items()
                }
                found.append(Search(rows[search.queries], galleries, OfOne(member, name, self.places[name])))
        return found

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor | None:
        """Where several meet: those of different datasets never do."""
        asking, _ = whose(queries.cameras, CAMERAS)
        asked, _ = whose(gallery.cameras, CAMERAS)
        ignored = asking[:, None] != asked
        for name, member in self.members.items():
            rows, own = own_part(queries, name, self.places[name])
            columns, of_gallery = own_part(gallery, name, self.places[name])
            if (part := member.ignored(own, of_gallery)) is not None:
                ignored[rows[:, None], columns] = part
        return ignored


class OfOne(Around):
    """How one of several datasets is measured, in the joint catalogue."""

    def __init__(self, member: RetrievalProtocol, name: str, place: int) -> None:
        super().__init__(member)
        self.name, self.place = name, place

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor:
        """Whatever else stands in a gallery, images of other datasets never meet this one's."""
        (rows, own), (columns, of_gallery) = (own_part(some, self.name, self.place) for some in (queries, gallery))
        part = super().ignored(own, of_gallery)
        ignored = torch.ones(len(queries), len(gallery), dtype=torch.bool)
        ignored[rows[:, None], columns] = torch.tensor(False) if part is None else part
        return ignored
