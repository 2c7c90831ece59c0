"""Published numbers with the conditions that they were measured under; a row stands beside one measured alike.

`published.csv` holds them, in percent as their sources print them; what a source does not say is empty there.
"""

import csv
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mpanet_pl.interfaces import Similarity

Published = Mapping[str, Mapping[str, float]]  # setting -> score -> percent
SCORES = ("r1", "r10", "r20", "mAP", "mINP")
YES_OR_NO = {"yes": True, "no": False, "": None}


class Record(NamedTuple):
    """One row that somebody published; None is what its source does not say."""

    method: str
    venue: str
    dataset: str  # as `dataset=` calls it
    trained_on: str | None  # other datasets, "regdb + sysu"; None: the same one
    edition: str | None  # of a dataset that was released more than once
    setting: str | None
    query: str | None  # visible or infrared
    scores: Mapping[str, float]
    scorer: str | None  # embedding; pair: sees both images at once; re-ranked
    flip: bool | None  # embeddings averaged with those of the mirror images
    normalised: bool | None  # cosine, or Euclidean distance of embeddings as they are
    gallery: str | None  # official permutations, random.seed, all images; whose rules, where there are several
    trials: int | None  # galleries
    selected: str | None  # how the checkpoint was
    source: str

    @property
    def unknown(self) -> list[str]:
        """What of the conditions its source leaves open."""
        asked = ("query", "scorer", "flip", "normalised", "gallery", "selected")
        return [name for name in asked if getattr(self, name) is None]

    def is_alike(self, *, flip: bool, similarity: Similarity, gallery: str | None, trials: int | None) -> bool:
        """Whether nothing that is known of it differs from these conditions."""
        ranked_by = self.normalised is None or ("cosine" if self.normalised else "euclidean") == similarity
        pairs = ((self.flip, flip), (self.gallery, gallery), (self.trials, trials))
        alike = all(own is None or own == theirs for own, theirs in pairs)
        return self.scorer == "embedding" and ranked_by and alike


@cache
def records() -> Sequence[Record]:
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        return tuple(map(_record, csv.DictReader(file)))


def mpanet(
    dataset: str, *, similarity: Similarity, gallery: str | None, trials: int | None = None, flip: bool = False
) -> Published:
    """What MPANet's paper reports, where these conditions are its own."""
    alike = (record for record in records() if (record.method, record.dataset) == ("MPANet", dataset))
    return {
        record.setting: record.scores
        for record in alike
        if record.setting and record.is_alike(similarity=similarity, gallery=gallery, trials=trials, flip=flip)
    }


def others(
    dataset: str,
    settings: Collection[str],
    *,
    similarity: Similarity,
    gallery: str | None,
    trials: int | None,
    flip: bool,
) -> tuple[Sequence[str], Sequence[Sequence[str]]] | None:
    """A table, header and rows, of what else was measured alike; None where there is nothing."""
    found = [
        record
        for record in records()
        if record.dataset == dataset and record.setting in settings and record.method != "MPANet"
        if record.trained_on is None
        if record.is_alike(similarity=similarity, gallery=gallery, trials=trials, flip=flip)
    ]
    if not found:
        return None
    header = ["setting", "published", "R1", "R10", "R20", "mAP", "mINP", "checkpoint chosen by", "not said", "source"]
    return header, [_cells(record) for record in found]


def across(settings: Collection[str]) -> tuple[Sequence[str], Sequence[Sequence[str]]] | None:
    """A table of what was published on these test sets, DATASET/SETTING, with networks trained on others."""
    found = [r for r in records() if r.trained_on and f"{r.dataset}/{r.setting}" in settings]
    if not found:
        return None
    header = ["trained on", "tested on", "published", "R1", "mAP", "mINP", "gallery", "not said", "source"]
    return header, [
        [
            str(record.trained_on),
            f"{record.dataset}/{record.setting}",
            f"{record.method} ({record.venue})",
            *(f"{record.scores[name]:.2f}" for name in ("r1", "mAP", "mINP")),
            record.gallery or "",
            ", ".join(record.unknown),
            record.source,
        ]
        for record in found
    ]


def _cells(record: Record) -> list[str]:
    edition = f", {record.edition}" if record.edition else ""
    return [
        str(record.setting),
        f"{record.method} ({record.venue}{edition})",
        *(f"{record.scores[name]:.2f}" if name in record.scores else "" for name in SCORES),
        record.selected or "",
        ", ".join(record.unknown),
        record.source,
    ]


def _record(row: Mapping[str, str]) -> Record:
    said: dict[str, Any] = {name: row[name] or None for name in Record._fields if name != "scores"}
    said["scores"] = {name: float(row[name]) for name in SCORES if row[name]}
    said["trials"] = int(row["trials"]) if row["trials"] else None
    return Record(**said | {name: YES_OR_NO[row[name]] for name in ("flip", "normalised")})
