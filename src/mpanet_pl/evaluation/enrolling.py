"""Test people parted for an open set: some enrolled, some withheld, and what becomes of their searches."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.ranking import REMOVED, Gallery
from mpanet_pl.evaluation.retrieval import Retrieval

ENROLLED, WITHHELD, CALIBRATING = 0, 1, 2
SHARES = {ENROLLED: 0.5, WITHHELD: 0.25, CALIBRATING: 0.25}
AT_ONCE = 512
TOO_FEW = "{setting}: too few test people for an open set: some have to be enrolled, some withheld, some calibrate."


class Searches(NamedTuple):
    """S searches of a gallery."""

    best: Tensor  # (S,) similarity of the most similar person, whoever it is
    own: Tensor  # (S,) of the person searched for; -inf where not enrolled
    place: Tensor  # (S,) int64, where that person ranks; of equals the wrong one ranks first
    mated: Tensor  # (S,) bool

    @classmethod
    def of(cls, similarity: Tensor, column: Tensor) -> Searches:
        """From similarities to each enrolled person (S, I), and the searched person's column (S,), -1 for none."""
        mated = column >= 0
        own = similarity.gather(1, column.clamp(min=0)[:, None]).flatten().masked_fill(~mated, REMOVED)
        return cls(similarity.amax(1), own, (similarity >= own[:, None]).sum(1), mated)

    def false_alarms(self, threshold: float) -> float:
        """The share of non-mated searches that find somebody."""
        return share(self.best[~self.mated] >= threshold)

    def detected(self, threshold: float, rank: int = 1) -> float:
        """The share of mated searches that find their person, within `rank`."""
        return share((self.own >= threshold)[self.mated] & (self.place <= rank)[self.mated])


class Best(NamedTuple):
    """Scores of queries against people: (Q, I) the best image of each, and (Q,) whose column is the query's own."""

    scores: Tensor
    own: Tensor

    @classmethod
    def of(cls, retrieval: Retrieval, queries: Tensor, images: Tensor) -> Best:
        """Of those queries whose person the gallery shows."""
        identities = retrieval.identities
        images = images[identities[images].argsort(stable=True).cpu()]
        gallery = Gallery(identities[images])
        queries = queries[torch.isin(identities[queries], gallery.known).cpu()]
        parts = [gallery.best_of_each(retrieval.comparable(rows, images)) for rows in queries.split(AT_ONCE)]
        scores = torch.cat(parts) if parts else torch.empty(0, len(gallery.known))
        return cls(scores, torch.searchsorted(gallery.known, identities[queries]))

    @property
    def of_others(self) -> Tensor:
        """(Q, I) with the query's own person removed."""
        return self.scores.scatter(1, self.own[:, None], REMOVED)


def groups(people: Tensor, draw: int) -> Tensor:
    """(I,) which of `ENROLLED`, `WITHHELD`, `CALIBRATING` each of `people` (I,) is in this draw."""
    keys = [hashlib.sha256(f"{draw} {person}".encode()).digest() for person in people.tolist()]
    order = sorted(range(len(keys)), key=keys.__getitem__)  # the draw's own
    group = torch.full((len(people),), ENROLLED)
    withheld, calibrating = (round(SHARES[kind] * len(people)) for kind in (WITHHELD, CALIBRATING))
    group[order[:withheld]] = WITHHELD
    group[order[withheld : withheld + calibrating]] = CALIBRATING
    return group


class Draw(NamedTuple):
    tested: Searches
    who: Tensor  # (S,) the person of each search tested
    calibrating: Tensor  # (C,) best similarities of those who calibrate
    by_cameras: dict[tuple[int, int], Tensor]  # of the withheld people: best similarity in each camera of the gallery
    enrolled: int
    calibrating_people: int


def draw_of(retrieval: Retrieval, queries: Tensor, images: Tensor, draw: int, setting: str, calibrates: bool) -> Draw:
    everyone = retrieval.catalogue.identities
    people = everyone.unique()
    group = groups(people, draw)[torch.searchsorted(people, everyone)]  # (N,) of each image's person
    if not calibrates:
        group[group == CALIBRATING] = WITHHELD
    images = images[group[images] == ENROLLED]
    if not len(images):
        raise UserError(TOO_FEW.format(setting=setting))
    gallery = Gallery(retrieval.identities[images])
    similarity = retrieval.comparable(queries, images)  # (Q, G)
    of_people = gallery.best_of_each(similarity)  # (Q, I)
    identities = retrieval.identities[queries]
    place = torch.searchsorted(gallery.known, identities).clamp(max=len(gallery.known) - 1)
    column = place.where(gallery.known[place] == identities, -1)
    of_query = group[queries].to(similarity.device)
    meets = of_people.amax(1) > REMOVED
    unmatched = (of_query == ENROLLED) & (column < 0)
    searches = Searches.of(of_people, column)
    tested = meets & (of_query != CALIBRATING) & ~unmatched & ((searches.own > REMOVED) | ~searches.mated)
    calibrating = meets & (of_query == CALIBRATING)
    best_of_calibrating = searches.best[calibrating]
    searches = Searches(*(values[tested] for values in searches))
    if not searches.mated.any() or searches.mated.all() or (calibrates and not calibrating.any()):
        raise UserError(TOO_FEW.format(setting=setting))
    return Draw(
        searches,
        identities[tested],
        best_of_calibrating,
        _by_cameras(retrieval, queries, images, similarity, meets & (of_query == WITHHELD)),
        len(gallery.known),
        len(identities[calibrating].unique()),
    )


def _by_cameras(
    retrieval: Retrieval, queries: Tensor, images: Tensor, similarity: Tensor, withheld: Tensor
) -> dict[tuple[int, int], Tensor]:
    """(query's, gallery's camera) -> best similarities of the queries (Q,) that are of `withheld` people."""
    asked, shown = (retrieval.catalogue.cameras[rows] for rows in (queries, images))
    found = {}
    for mine in asked[withheld.cpu()].unique().tolist():
        rows = withheld & (asked == mine).to(withheld.device)
        for theirs in shown.unique().tolist():
            best = similarity[rows][:, (shown == theirs).to(rows.device)].amax(1)
            if len(met := best[best > REMOVED]):
                found[mine, theirs] = met
    return found


def share(found: Tensor) -> float:
    return float(found.double().mean())
