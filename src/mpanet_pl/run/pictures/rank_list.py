"""Rank lists: queries, and the gallery images that come first for each, right ones framed green and wrong ones red."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import normalize

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import evaluate
from mpanet_pl.interfaces import RetrievalProtocol, Search, Similarity
from mpanet_pl.system.sheet import lay_out, save, tile

CHOICES = SPREAD, FIRST, WORST = "spread", "first", "worst"
RIGHT, WRONG = "#12A150", "#D62F1F"


class RankList(NamedTuple):
    """Rows of a catalogue, for Q queries and T places."""

    queries: Tensor  # (Q,) int64
    ranked: Tensor  # (Q, T) int64, -1 where a query meets fewer images
    right: Tensor  # (Q, T) bool
    chosen: str = ""  # how, in words


class Images(Protocol):
    def __getitem__(self, rows: Tensor) -> Tensor:
        """(B,) rows of a catalogue -> (B, 3, H, W) uint8."""
        ...


def best_ranked(
    embeddings: Tensor,
    catalogue: Catalogue,
    protocol: RetrievalProtocol,
    *,
    choice: str | int = SPREAD,
    queries: int = 6,
    places: int = 10,
) -> RankList:
    """The first places of a few queries, in the first gallery of the protocol's first setting.

    `choice` is SPREAD (at equal distances in the protocol's list), FIRST, WORST (lowest average precision) or a
    person's number; all among those whose identity the gallery holds. The list says which, for a list of the worst is
    no score.
    """
    search = protocol.searches(catalogue)[0]
    setting, (gallery, *_) = next(iter(search.galleries.items()))
    findable = search.queries[torch.isin(catalogue.identities[search.queries], catalogue.identities[gallery])]
    chosen = _chosen(choice, findable, queries, embeddings, catalogue, _One(protocol, search.queries, setting, gallery))
    similarity = _similarity(embeddings[chosen], embeddings[gallery], protocol.similarity)  # (Q, G)
    ignored = protocol.ignored(catalogue[chosen], catalogue[gallery])
    if ignored is not None:
        similarity[ignored] = -torch.inf
    best = similarity.topk(min(places, len(gallery)), dim=1)
    right = catalogue.identities[gallery[best.indices]] == catalogue.identities[chosen, None]
    how = f"{setting}: {_in_words(choice, len(chosen), len(findable))}"
    return RankList(chosen, gallery[best.indices].where(best.values > -torch.inf, -1), right, how)


def _chosen(
    choice: str | int, findable: Tensor, count: int, embeddings: Tensor, catalogue: Catalogue, gallery: _One
) -> Tensor:
    few = min(count, len(findable))
    if choice == SPREAD:
        return findable[torch.linspace(0, len(findable) - 1, few).long()]
    if choice == FIRST:
        return findable[:few]
    if choice == WORST:
        (scores,) = evaluate(embeddings, catalogue, gallery).values()
        assert scores.outcomes is not None
        return scores.outcomes.queries[scores.outcomes.average_precision[0].argsort(stable=True)[:count]]
    if not isinstance(choice, int):
        raise UserError(
            f"A rank list is of {SPREAD}, {FIRST} or {WORST} queries or of a person's number, got '{choice}'."
        )
    of_person = findable[catalogue.identities[findable] == choice]
    if len(of_person) == 0:
        raise UserError(f"A rank list of person {choice} has no query: nobody of that number can be found.")
    return of_person[:count]


def _in_words(choice: str | int, shown: int, findable: int) -> str:
    of_all = f"of {findable} queries with a true match"
    return {
        SPREAD: f"{shown} {of_all}, at equal distances in the list, whatever their result",
        FIRST: f"the first {shown} {of_all}, whatever their result",
        WORST: f"the WORST {shown} {of_all}, by average precision: no picture of the score",
    }.get(str(choice), f"the first {shown} queries of person {choice}, whatever their result")


class _One(RetrievalProtocol):
    """One gallery of a protocol."""

    def __init__(self, protocol: RetrievalProtocol, queries: Tensor, setting: str, gallery: Tensor) -> None:
        self.protocol, self.version, self.draw = protocol, protocol.version, protocol.draw
        self.cmc, self.similarity = protocol.cmc, protocol.similarity
        self.search = Search(queries, {setting: [gallery]})

    def searches(self, catalogue: Catalogue) -> list[Search]:
        return [self.search]

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor | None:
        return self.protocol.ignored(queries, gallery)


def _similarity(queries: Tensor, gallery: Tensor, similarity: Similarity) -> Tensor:
    queries, gallery = queries.float().cpu(), gallery.float().cpu()
    if similarity == "product":
        return queries @ gallery.T
    if similarity == "cosine":
        queries, gallery = normalize(queries, dim=1), normalize(gallery, dim=1)
    return -torch.cdist(queries, gallery)


def draw_rank_list(ranks: RankList, images: Images, path: Path) -> None:
    """One row a query. The right frame is also the broader one, for eyes that take green and red for one colour."""
    rows = []
    for query, ranked, right in zip(*ranks[:3], strict=True):
        met = ranked >= 0
        found = zip(images[ranked[met]], right[met].tolist(), strict=True)
        rows.append([tile(images[query[None]][0]), *(_framed(tile(image), good) for image, good in found)])
    titles = ["query", *map(str, range(1, ranks.ranked.shape[1] + 1))]
    save(lay_out(rows, titles=titles, heading=ranks.chosen), path)


def _framed(picture: Image.Image, right: bool) -> Image.Image:
    corner = (picture.width - 1, picture.height - 1)
    colour, width = (RIGHT, 6) if right else (WRONG, 3)
    ImageDraw.Draw(picture).rectangle((0, 0, *corner), outline=colour, width=width)
    return picture
