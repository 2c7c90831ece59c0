"""The same scores of parts of a test: one pair of cameras at a time, or some of the queries among the whole gallery."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.among import Among
from mpanet_pl.evaluation.retrieval import true_matches
from mpanet_pl.evaluation.scoring import Scores, evaluate
from mpanet_pl.evaluation.tables import COLUMNS, HEADLINES, Grid, score_values, shown
from mpanet_pl.interfaces import RetrievalProtocol

Labels = Mapping[str, Mapping[str, Tensor]]  # kind -> name -> (N,) bool, images of the catalogue; they may overlap

KINDS = ("camera", "gallery")  # known of every dataset
Ranges = Mapping[str, tuple[float, float]]  # name -> from, and below
RANGES: Mapping[str, Ranges] = {
    "gallery": {"1 image": (1, 2), "2 or 3 images": (2, 4), "4 to 9 images": (4, 10), "10 images or more": (10, inf)},
    "time": {  # seconds
        "under a minute": (0, 60),
        "a minute to an hour": (60, 3600),
        "an hour to a day": (3600, 86400),
        "a day or more": (86400, inf),
    },
}
FEW = 20  # people: intervals of fewer hold, but are wide
REMARK = f"few: fewer than {FEW} people, whose interval leaves almost everything open"


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
    "gallery" those with so many true matches in their first gallery, "time" those whose nearest true match there was
    taken so much earlier or later; `labels` name further kinds. `scores` are the whole test's, if known."""
    labels = labels or {}
    check_kinds(kinds, labels, catalogue)
    whole = scores or evaluate(embeddings, catalogue, protocol)
    found: list[Slice] = []
    for kind in kinds:
        if kind == "camera":
            found += _by_cameras(embeddings, catalogue, protocol)
        elif kind in RANGES:
            found += _by_amount(kind, whole, catalogue, protocol)
        else:
            for name, images in labels[kind].items():
                found += [one for setting, score in whole.items() if (one := _part(kind, name, setting, score, images))]
    return found


def check_kinds(kinds: Sequence[str], labels: Collection[str], catalogue: Catalogue) -> None:
    """`labels` are the kinds that only some datasets know."""
    known = (*KINDS, *(("time",) if catalogue.times is not None else ()), *labels)
    if unknown := [kind for kind in kinds if kind not in known]:
        raise UserError(f"slices are {', '.join(known)} of these images, got {', '.join(unknown)}.")


def table(found: Sequence[Slice], *, narrow: bool = False) -> Grid:
    rows = []
    for one in found:
        assert one.scores.outcomes is not None
        values = score_values(one.scores)
        people = f"{one.people} (few)" if one.people < FEW else str(one.people)
        cells = [shown(values[name], narrow=narrow) for name in HEADLINES]
        rows.append([f"{one.kind}: {one.name}", one.setting, people, str(len(one.scores.outcomes.queries)), *cells])
    return ["slice", "setting", "people", "queries", *(COLUMNS[name] for name in HEADLINES)], rows


def _by_cameras(embeddings: Tensor, catalogue: Catalogue, protocol: RetrievalProtocol) -> Iterator[Slice]:
    searches = protocol.searches(catalogue)
    cameras = catalogue.cameras.unique().tolist()
    for asked in cameras:
        for kept in cameras:
            sides = {"asked": catalogue.cameras == asked, "kept": catalogue.cameras == kept}
            pair = Among(protocol, catalogue, searches, **sides, draw=f"from camera {asked} to camera {kept} alone")
            for setting, scores in evaluate(embeddings, catalogue, pair).items() if pair.found else ():
                yield Slice("camera", f"{asked} → {kept}", setting, scores)


def _by_amount(
    kind: str, scores: Mapping[str, Scores], catalogue: Catalogue, protocol: RetrievalProtocol
) -> Iterator[Slice]:
    for search in protocol.searches(catalogue):
        for setting, (gallery, *_) in search.galleries.items():
            amount = torch.full((len(catalogue),), inf, dtype=torch.float64)
            for queries, matches in true_matches(catalogue, protocol, search.queries, gallery):
                if kind == "time":
                    assert catalogue.times is not None
                    apart = (catalogue.times[queries][:, None] - catalogue.times[gallery]).abs()
                    amount[queries] = apart.where(matches & ~apart.isnan(), inf).amin(1)
                else:
                    amount[queries] = matches.sum(1).double()
            for name, (least, end) in RANGES[kind].items():
                if part := _part(kind, name, setting, scores[setting], (amount >= least) & (amount < end)):
                    yield part


def _part(kind: str, name: str, setting: str, scores: Scores, images: Tensor) -> Slice | None:
    """The scores of the queries among `images` (N,) bool; None where some trial has none of them with a match."""
    assert scores.outcomes is not None
    outcomes = scores.outcomes.of(images[scores.outcomes.queries])
    if not (outcomes.first > 0).any(1).all():
        return None
    return Slice(kind, name, setting, Scores.of(outcomes, scores.measured))
