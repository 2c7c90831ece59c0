"""Rank lists: queries, and the gallery images that come first for each, right ones framed green and wrong ones red."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import normalize

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.evaluation.protocols import RetrievalProtocol
from mpanet_pl.run.pictures.sheet import lay_out, save, tile

RIGHT, WRONG = "#12A150", "#D62F1F"


class RankList(NamedTuple):
    """Rows of a catalogue, for Q queries and T places."""

    queries: Tensor  # (Q,) int64
    ranked: Tensor  # (Q, T) int64, -1 where a query meets fewer images
    right: Tensor  # (Q, T) bool


class Images(Protocol):
    def __getitem__(self, rows: Tensor) -> Tensor:
        """(B,) rows of a catalogue -> (B, 3, H, W) uint8."""
        ...


def best_ranked(
    embeddings: Tensor, catalogue: Catalogue, protocol: RetrievalProtocol, *, queries: int = 6, places: int = 10
) -> RankList:
    """The first places of a few queries, in the first gallery of the protocol's first setting.

    The queries stand at equal distances in the protocol's list, among those whose identity the gallery holds: nothing
    is chosen by its result.
    """
    search = protocol.searches(catalogue)[0]
    gallery = next(iter(search.galleries.values()))[0]
    findable = search.queries[torch.isin(catalogue.identities[search.queries], catalogue.identities[gallery])]
    chosen = findable[torch.linspace(0, len(findable) - 1, min(queries, len(findable))).long()]
    similarity = _similarity(embeddings[chosen], embeddings[gallery], protocol.normalise)  # (Q, G)
    ignored = protocol.ignored(catalogue[chosen], catalogue[gallery])
    if ignored is not None:
        similarity[ignored] = -torch.inf
    best = similarity.topk(min(places, len(gallery)), dim=1)
    right = catalogue.identities[gallery[best.indices]] == catalogue.identities[chosen, None]
    return RankList(chosen, gallery[best.indices].where(best.values > -torch.inf, -1), right)


def _similarity(queries: Tensor, gallery: Tensor, normalised: bool) -> Tensor:
    queries, gallery = queries.float().cpu(), gallery.float().cpu()
    if normalised:
        queries, gallery = normalize(queries, dim=1), normalize(gallery, dim=1)
    return -torch.cdist(queries, gallery)


def draw_rank_list(ranks: RankList, images: Images, path: Path) -> None:
    """One row a query. The right frame is also the broader one, for eyes that take green and red for one colour."""
    rows = []
    for query, ranked, right in zip(*ranks, strict=True):
        met = ranked >= 0
        found = zip(images[ranked[met]], right[met].tolist(), strict=True)
        rows.append([tile(images[query[None]][0]), *(_framed(tile(image), good) for image, good in found)])
    titles = ["query", *map(str, range(1, ranks.ranked.shape[1] + 1))]
    save(lay_out(rows, titles=titles), path)


def _framed(picture: Image.Image, right: bool) -> Image.Image:
    corner = (picture.width - 1, picture.height - 1)
    colour, width = (RIGHT, 6) if right else (WRONG, 3)
    ImageDraw.Draw(picture).rectangle((0, 0, *corner), outline=colour, width=width)
    return picture
