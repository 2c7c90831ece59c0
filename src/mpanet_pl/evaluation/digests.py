"""Digests of what was asked: by them results are paired, and two that were asked other things are told apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError


class Met(NamedTuple):
    """What one setting's queries met, whatever the order of the images."""

    queries: str  # paths and people
    people: str  # of the queries
    galleries: tuple[str, ...]  # of each trial: paths and people

    @classmethod
    def of(cls, catalogue: Catalogue, queries: Tensor, galleries: Sequence[Tensor]) -> Met:
        who = catalogue.sources or catalogue.identities.tolist()  # a joint catalogue's numbers depend on what is joined

        def images(rows: Tensor) -> str:
            return digest(f"{who[row]}\0{catalogue.paths[row]}" for row in rows.tolist())

        people = digest({str(who[row]) for row in queries.tolist()})
        return cls(images(queries), people, tuple(images(gallery) for gallery in galleries))


def digest(lines: Iterable[str]) -> str:
    """The same for the same lines in another order.

    >>> digest(["a", "b"]) == digest(["b", "a"]) != digest(["ab"])
    True
    """
    return sha256("\n".join(sorted(lines)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def digest_of(tensors: Iterable[Tensor]) -> str:
    """Of the numbers in tensors: a network's parameters and buffers, or embeddings."""
    found = sha256()
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def check_met(first: Met | None, second: Met | None) -> None:
    """Raise a `UserError` that says what differs; an older run that kept no digests passes."""
    if first is None or second is None or first == second:
        return
    if first.people != second.people:
        raise UserError("Their queries show other people.")
    if first.queries != second.queries:
        raise UserError("They were not asked the same queries.")
    if len(first.galleries) != len(second.galleries):
        raise UserError(f"They met {len(first.galleries)} and {len(second.galleries)} galleries.")
    pairs = enumerate(zip(first.galleries, second.galleries, strict=True), 1)
    trials = [str(trial) for trial, (one, other) in pairs if one != other]
    raise UserError(f"The same queries met other galleries in trial {', '.join(trials)}: other images stand in them.")


def check_images(first: str | None, second: str | None) -> None:
    """Raise a `UserError` where files of the same names are other images (another drawn world, say)."""
    if first and second and first != second:
        raise UserError(
            "The test images are others, though their names are the same: another world was drawn "
            "(data.dataset.seed?), or files were changed."
        )
