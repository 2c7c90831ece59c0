"""Known or unknown: whether who answers is similar enough to be the one who was searched for.

A checkpoint carries a threshold of cosines (docs/open_set.md), and a gallery's record keeps it. It holds for whole
vectors; a gallery of small vectors translates it. What it promises depends on how many people are in the gallery now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.thresholds import KEY, Limit, Threshold
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.store import RECORD, Gallery
from mpanet_pl.system import weights

AUTO = "auto"


class Enrolled(NamedTuple):
    """Who is in a gallery, as a threshold asks."""

    people: int
    images: float  # of a person
    modality: str | None  # visible, infrared, both; None where it is not known of every row

    @classmethod
    def of(cls, gallery: Gallery) -> Enrolled:
        """A row without an identity counts as a person: that is at most as many as there are."""
        columns = gallery.columns("identity", "modality")
        people = pc.count_distinct(columns["identity"]).as_py() + columns["identity"].null_count
        return cls(max(people, 1), len(columns) / max(people, 1), modality_of(columns["modality"]) if people else None)


def modality_of(column: pa.ChunkedArray) -> str | None:
    """visible, infrared or both; None where it is not known of every row."""
    names = pc.unique(column).to_pylist()
    if not names or None in names:
        return None
    return "both" if len(names) > 1 else str(names[0])


def threshold_of(embedder: Embedder) -> dict[str, Any] | None:
    """What the embedder's checkpoint carries; None where it has none for these embeddings, or is a released one."""
    if embedder.flip or not embedder.origin.config:
        return None
    path = embedder.origin.path
    found = Threshold.of(weights.read(path).get(KEY), path)
    return found.plain() if found else None


def limit_of(gallery: Gallery, asked: float | str | None, queries: str | None = None) -> float | None:
    """From which cosine on an answer is known. `auto` is the gallery's own threshold, for as many people as it has now
    and `queries` of a modality, where that is known; None where nobody can say."""
    if asked != AUTO:
        return None if asked is None else float(asked)
    try:
        found = _own(gallery, queries)
        return None if found is None else _translated(gallery, found.value)
    except UserError:
        return None


def promise_of(gallery: Gallery, limit: float | None, queries: str | None = None) -> str:
    """What a limit promises in the gallery as it is now, or why it has none; empty where nothing was calibrated.

    >>> from types import SimpleNamespace
    >>> gallery = SimpleNamespace(record={"threshold": None}, folder="people", projection=None)
    >>> promise_of(gallery, 0.9), promise_of(gallery, None)
    ('known from a cosine of 0.900', '')
    """
    plain = "" if limit is None else f"known from a cosine of {limit:.3f}"
    try:
        if limit is not None:
            promise = _own(gallery, queries, _translated(gallery, limit, back=True))
        elif promise := _own(gallery, queries):
            _translated(gallery, promise.value)
    except UserError as error:
        return plain or f"neither known nor unknown: {error}"
    if promise is None or limit is None:
        return plain
    tracklets = "; images calibrated, and its rows are tracklets" if gallery.record.get("group") else ""
    return f"{plain} ({promise.terms}{tracklets})"


def _own(gallery: Gallery, queries: str | None, value: float | None = None) -> Limit | None:
    """The gallery's threshold in cosines of whole vectors, or what `value` promises; None where it has none."""
    threshold = Threshold.of(gallery.record.get("threshold"), f"{gallery.folder}/{RECORD}")
    if threshold is None:
        return None
    there = Enrolled.of(gallery)
    known: Mapping[str, Any] = {"images": there.images, "queries": queries, "gallery": there.modality}
    if value is None:
        return threshold.at(there.people, **known)
    return threshold.promise(value, there.people, **known)


def _translated(gallery: Gallery, cosine: float, *, back: bool = False) -> float:
    """The cosine of the gallery's vectors that stands for one of whole vectors, or `back`."""
    return cosine if gallery.projection is None else gallery.projection.translated(cosine, back=back)


def with_known(table: pa.Table, limit: float | None) -> pa.Table:
    """Answers with a column `known`, null where there is no threshold."""
    known = pa.nulls(len(table), pa.bool_()) if limit is None else pc.greater_equal(table["score"], limit)
    return table.add_column(3, "known", known)
