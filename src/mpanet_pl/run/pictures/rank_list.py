"""Rank lists: queries, and the gallery images that come first for each, with person, camera, similarity and a mark."""

from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.calibration import evenly
from mpanet_pl.evaluation.retrieval import Retrieval
from mpanet_pl.interfaces import RetrievalProtocol, Search, Similarity
from mpanet_pl.system.sheet import Note, lay_out, save, tile

CHOICES = SPREAD, FIRST, WORST = "spread", "first", "worst"
RIGHT, WRONG = "#0B7A3B", "#C4261D"
KEY: dict[Similarity, str] = {
    "cosine": "person, camera, cosine similarity",
    "product": "person, camera, inner product",
    "euclidean": "person, camera, minus the Euclidean distance",
}


class RankList(NamedTuple):
    """Rows of a catalogue, for Q queries and T places."""

    queries: Tensor  # (Q,) int64
    ranked: Tensor  # (Q, T) int64, -1 where a query meets fewer images
    right: Tensor  # (Q, T) bool
    similarity: Tensor  # (Q, T) float32: cosine or product, or minus the Euclidean distance
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
    retrieval = Retrieval(embeddings, catalogue, protocol)
    chosen = _chosen(choice, findable, queries, retrieval, gallery)
    best = retrieval.comparable(chosen, gallery).topk(min(places, len(gallery)), dim=1)
    right = catalogue.identities[gallery[best.indices]] == catalogue.identities[chosen, None]
    how = f"{setting}: {_in_words(choice, len(chosen), len(findable))}. Below an image: {KEY[protocol.similarity]}"
    return RankList(chosen, gallery[best.indices].where(best.values > -torch.inf, -1), right, best.values, how)


def _chosen(choice: str | int, findable: Tensor, count: int, retrieval: Retrieval, gallery: Tensor) -> Tensor:
    if choice == SPREAD:
        return evenly(findable, count)
    if choice == FIRST:
        return findable[:count]
    if choice == WORST:
        (placed,) = retrieval.rank(Search(findable, {"": [gallery]})).values()
        matched = placed.first[0].cpu() > 0
        precision = placed.average_precision[0].cpu()[matched]
        return findable[matched][precision.argsort(stable=True)[:count]]
    if not isinstance(choice, int):
        raise UserError(
            f"A rank list is of {SPREAD}, {FIRST} or {WORST} queries or of a person's number, got '{choice}'."
        )
    of_person = findable[retrieval.catalogue.identities[findable] == choice]
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


def draw_rank_list(ranks: RankList, images: Images, catalogue: Catalogue, path: Path) -> None:
    """One row a query. Right and wrong differ by a sign and the frame's width besides the colour."""
    rows, notes = [], []
    for query, ranked, right, similarity in zip(*ranks[:4], strict=True):
        met = ranked >= 0
        found = zip(images[ranked[met]], right[met].tolist(), strict=True)
        rows.append([tile(images[query[None]][0]), *(_framed(tile(image), good) for image, good in found)])
        places = zip(ranked[met].tolist(), right[met].tolist(), similarity[met].tolist(), strict=True)
        notes.append([_note(catalogue, int(query)), *(_note(catalogue, *place) for place in places)])
    titles = ["query", *map(str, range(1, ranks.ranked.shape[1] + 1))]
    save(lay_out(rows, titles=titles, notes=notes, heading=ranks.chosen), path)


def _note(catalogue: Catalogue, row: int, right: bool | None = None, similarity: float | None = None) -> Note:
    camera = int(catalogue.cameras[row])
    who = f"{int(catalogue.identities[row])}{f'  c{camera}' * bool(camera)}"
    if similarity is None:
        return Note(f"person {who}")
    mark, colour = ("✓", RIGHT) if right else ("✗", WRONG)
    return Note(f"{mark} {who}\n{similarity:.3f}", colour)


def _framed(picture: Image.Image, right: bool) -> Image.Image:
    corner = (picture.width - 1, picture.height - 1)
    colour, width = (RIGHT, 6) if right else (WRONG, 3)
    ImageDraw.Draw(picture).rectangle((0, 0, *corner), outline=colour, width=width)
    return picture
