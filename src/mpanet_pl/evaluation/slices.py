"""The same scores of parts of a test: one pair of cameras at a time, or some of the queries among the whole gallery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.protocols import RetrievalProtocol, Search
from mpanet_pl.evaluation.scoring import Scores, any_match, evaluate
from mpanet_pl.evaluation.tables import COLUMNS, HEADLINES, Grid, score_values, shown

Labels = Mapping[str, Mapping[str, Tensor]]  # kind -> name -> (N,) bool, images of the catalogue; they may overlap

KINDS = ("camera", "gallery")  # known of every dataset
NUMBERS = {  # of a query's true matches in its first gallery: least and most
    "1 image": (1, 1),
    "2 or 3 images": (2, 3),
    "4 to 9 images": (4, 9),
    "10 images or more": (10, 10**9),
}
FEW = 20  # people: intervals of fewer hold, but are wide
REMARK = f"few: fewer than {FEW} people, whose interval leaves almost everything open"
AT_ONCE = 2**22


class Slice(NamedTuple):
    kind: str
    name: str
    setting: str
    scores: Scores

    @property
    def people(self) -> int:
        assert self.scores.outcomes is not None
        return len(self.scores.outcomes.identities.unique())


def slices(
    embeddings: Tensor,
    catalogue: Catalogue,
    protocol: RetrievalProtocol,
    kinds: Sequence[str],
    labels: Labels | None = None,
    scores: Mapping[str, Scores] | None = None,
) -> list[Slice]:
    """Of each kind, in order: "camera" scores each camera's queries among each camera's gallery images alone;
    "gallery" those with so many true matches; `labels` name further kinds. `scores` are the whole test's, if known."""
    labels = labels or {}
    check_kinds(kinds, labels)
    whole = scores or evaluate(embeddings, catalogue, protocol)
    found: list[Slice] = []
    for kind in kinds:
        if kind == "camera":
            found += _by_cameras(embeddings, catalogue, protocol)
        elif kind == "gallery":
            found += _by_numbers(whole, catalogue, protocol)
        else:
            for name, images in labels[kind].items():
                found += [one for setting, score in whole.items() if (one := _part(kind, name, setting, score, images))]
    return found


def check_kinds(kinds: Sequence[str], labels: Labels) -> None:
    if unknown := [kind for kind in kinds if kind not in (*KINDS, *labels)]:
        raise UserError(f"slices are {', '.join((*KINDS, *labels))} of these images, got {', '.join(unknown)}.")


def table(found: Sequence[Slice], *, narrow: bool = False) -> Grid:
    rows = []
    for one in found:
        assert one.scores.outcomes is not None
        values = score_values(one.scores)
        people = f"{one.people} (few)" if one.people < FEW else str(one.people)
        cells = [shown(values[name], narrow=narrow) for name in HEADLINES]
        rows.append([f"{one.kind}: {one.name}", one.setting, people, str(len(one.scores.outcomes.queries)), *cells])
    return ["slice", "setting", "people", "queries", *(COLUMNS[name] for name in HEADLINES)], rows


class _OfCameras(RetrievalProtocol):
    """A protocol's searches from one camera to another; `found` holds those where something can be found."""

    def __init__(
        self, protocol: RetrievalProtocol, catalogue: Catalogue, searches: Sequence[Search], asked: int, kept: int
    ) -> None:
        self.protocol, self.version = protocol, protocol.version
        self.cmc, self.normalise = protocol.cmc, protocol.normalise
        self.draw = f"{protocol.draw}, from camera {asked} to camera {kept} alone"
        self.found: list[Search] = []
        for search in searches:
            queries = search.queries[catalogue.cameras[search.queries] == asked]
            galleries = {}
            for setting, trials in search.galleries.items():
                kept_trials = [images[catalogue.cameras[images] == kept] for images in trials]
                if met := [images for images in kept_trials if any_match(catalogue, protocol, queries, images)]:
                    galleries[setting] = met
            if galleries:
                self.found.append(Search(queries, galleries))

    def searches(self, catalogue: Catalogue) -> list[Search]:
        return self.found

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor | None:
        return self.protocol.ignored(queries, gallery)


def _by_cameras(embeddings: Tensor, catalogue: Catalogue, protocol: RetrievalProtocol) -> Iterator[Slice]:
    searches = protocol.searches(catalogue)
    cameras = catalogue.cameras.unique().tolist()
    for asked in cameras:
        for kept in cameras:
            pair = _OfCameras(protocol, catalogue, searches, asked, kept)
            for setting, scores in evaluate(embeddings, catalogue, pair).items() if pair.found else ():
                yield Slice("camera", f"{asked} → {kept}", setting, scores)


def _by_numbers(scores: Mapping[str, Scores], catalogue: Catalogue, protocol: RetrievalProtocol) -> Iterator[Slice]:
    for search in protocol.searches(catalogue):
        for setting, (gallery, *_) in search.galleries.items():
            number = torch.zeros(len(catalogue), dtype=torch.int64)
            number[search.queries] = _true_matches(search.queries, gallery, catalogue, protocol)
            for name, (least, most) in NUMBERS.items():
                if part := _part("gallery", name, setting, scores[setting], (number >= least) & (number <= most)):
                    yield part


def _true_matches(queries: Tensor, gallery: Tensor, catalogue: Catalogue, protocol: RetrievalProtocol) -> Tensor:
    """(Q,) how many images of the query's person it meets."""
    images, numbers = catalogue[gallery], []
    for rows in queries.split(max(1, AT_ONCE // max(1, len(gallery)))):
        asked = catalogue[rows]
        matches = asked.identities[:, None] == images.identities
        ignored = protocol.ignored(asked, images)
        numbers.append((matches if ignored is None else matches & ~ignored).sum(1))
    return torch.cat(numbers)


def _part(kind: str, name: str, setting: str, scores: Scores, images: Tensor) -> Slice | None:
    """The scores of the queries among `images` (N,) bool; None where some trial has none of them with a match."""
    assert scores.outcomes is not None
    outcomes = scores.outcomes.of(images[scores.outcomes.queries])
    if not (outcomes.first > 0).any(1).all():
        return None
    return Slice(kind, name, setting, Scores.of(outcomes, scores.measured))
