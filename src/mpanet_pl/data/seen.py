"""Whom a network was trained on, kept in its checkpoint; and whether any of them is to be tested on.

People are known by their dataset and their number there; where one of the two names says nothing (a class or a folder
of one's own), their images are, by a digest of each file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.data.decode import in_threads
from mpanet_pl.data.faults import listed
from mpanet_pl.errors import UserError

HEAD = 2**14  # bytes of a file that its digest reads, beside its length
ALLOWED = "allow_trained_people: "  # what a note of it begins with
SOMEBODY = "?"  # of a dataset, who is not known


class Seen(NamedTuple):
    """The training people of a network, DATASET/PERSON, and digests of their images."""

    people: tuple[str, ...]
    images: Tensor  # (N,) int64, sorted

    @classmethod
    def of(cls, train: Catalogue, files: Sequence[Path]) -> Seen:
        return cls(tuple(sorted(set(train.sources or ()))), digests(files).sort().values)

    @classmethod
    def read(cls, stored: object) -> Seen | None:
        """From a checkpoint; None of one that does not say."""
        if not isinstance(stored, Mapping) or not isinstance(images := stored.get("images"), Tensor):
            return None
        return cls(tuple(map(str, stored.get("people", ()))), images)

    def plain(self) -> dict[str, Any]:
        return {"people": list(self.people), "images": self.images}

    def among(self, test: Catalogue, files: Sequence[Path]) -> list[str]:
        """Test people, or images where people are not known by name, that were trained on."""
        names = {dataset for dataset, _ in map(_split, self.people)}
        sources = test.sources or ("",) * len(test)
        known = [_split(source)[0] in names for source in sources]
        found = {source for source, is_known in zip(sources, known, strict=True) if is_known and self._has(source)}
        rows = [row for row, is_known in enumerate(known) if not is_known]
        here = digests([files[row] for row in rows])
        same = torch.isin(here, self.images).nonzero().flatten().tolist()
        return [*sorted(found), *(test.paths[rows[row]] for row in same)]

    def _has(self, source: str) -> bool:
        dataset, person = _split(source)
        return person == SOMEBODY or source in self.people or f"{dataset}/{SOMEBODY}" in self.people


def check_unseen(
    seen: Seen | None, test: Catalogue, files: Sequence[Path], network: str, *, allowed: bool
) -> list[str]:
    """What to say of the results where test people were trained on; a `UserError` unless that is allowed."""
    found = seen.among(test, files) if seen else []
    if not found:
        return []
    if not allowed:
        raise UserError(
            f"{network} was trained on {len(found)} of the test people or images: {listed(found)}. Scores would "
            "measure memory: test on others, or say allow_trained_people=true, which the results then say, too."
        )
    return [f"{ALLOWED}{len(found)} of the test people or images were trained on"]


def check_notes(notes: Sequence[str], features: str, *, allowed: bool) -> None:
    """A `UserError` where embeddings come with a note that test people were trained on, unless that is allowed."""
    told = [note.removeprefix(ALLOWED) for note in notes if note.startswith(ALLOWED)]
    if told and not allowed:
        raise UserError(
            f"{features} was saved with allow_trained_people=true, as {told[0]}: say so again, or test on others."
        )


def digests(files: Sequence[Path]) -> Tensor:
    """(N,) int64 of each file's length and beginning."""
    found: Iterator[bytes] = in_threads(_digest, files, None)
    return torch.from_numpy(np.frombuffer(b"".join(found), np.int64).copy())


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(HEAD)
        length = file.seek(0, 2)
    return hashlib.blake2b(head + length.to_bytes(8), digest_size=8).digest()


def _split(source: str) -> tuple[str, str]:
    dataset, _, person = source.partition("/")
    return dataset, person
