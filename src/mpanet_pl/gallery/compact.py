"""Small vectors: the principal components of training embeddings, which become part of whoever embeds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mpanet_pl.errors import UserError
from mpanet_pl.system.files import written_aside


class Projection:
    """x -> (x - mean) @ components, scaled to length one; `mean` (D,), `components` (D, d)."""

    def __init__(self, mean: Tensor, components: Tensor) -> None:
        self.mean, self.components = mean.float(), components.float()

    @property
    def dimension(self) -> int:
        return self.components.shape[1]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.mean.numpy().tobytes() + self.components.numpy().tobytes()).hexdigest()

    def __call__(self, embeddings: Tensor) -> Tensor:
        mean, components = self.mean.to(embeddings.device), self.components.to(embeddings.device)
        return normalize((embeddings - mean) @ components)

    def save(self, path: Path) -> None:
        with written_aside(path) as aside, aside.open("wb") as file:
            np.savez(file, mean=self.mean.numpy(), components=self.components.numpy())

    @classmethod
    def read(cls, path: Path) -> Projection:
        try:
            with np.load(path, allow_pickle=False) as stored:
                mean, components = (torch.from_numpy(stored[name]) for name in ("mean", "components"))
            if mean.ndim != 1 or components.ndim != 2 or len(mean) != len(components):
                raise ValueError(f"shapes {tuple(mean.shape)} and {tuple(components.shape)}")
            return cls(mean, components)
        except Exception as error:  # whatever a parser of garbage stumbles over: there is no end to the kinds
            raise UserError(f"{path} is no projection that embed wrote ({error}).") from error


def learn(embeddings: Tensor, dimension: int, *, whiten: bool = False) -> Projection:
    """The `dimension` directions in which training embeddings (N, D) vary most; whitened, each varies by one.

    Each direction's sign is fixed by its largest entry, so that the same embeddings give the same projection.
    """
    return learn_each(embeddings, [dimension], whiten=whiten)[0]


def learn_each(embeddings: Tensor, dimensions: Sequence[int], *, whiten: bool = False) -> list[Projection]:
    """The same for several sizes, from one decomposition."""
    count, width = embeddings.shape
    most = min(count - 1, width)
    if bad := [dimension for dimension in dimensions if not 1 <= dimension <= most]:
        raise UserError(
            f"compact={bad[0]} cannot be learnt from {count} training embeddings of {width} numbers: 1 to {most} can."
        )
    mean = embeddings.double().mean(0)
    variances, directions = _principal(embeddings.double() - mean)  # (K,), (D, K)
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    components = directions * largest.sign()
    if whiten:
        components = components / variances.sqrt().clamp(min=1e-9)
    return [Projection(mean, components[:, :dimension].contiguous()) for dimension in dimensions]


def _principal(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Variances, descending, and directions (D, K) of float64 rows (N, D), from the smaller of the two products."""
    count, width = centred.shape
    small = centred @ centred.T if count < width else centred.T @ centred
    squares, vectors = (part.flip(-1) for part in torch.linalg.eigh(small))
    directions = normalize(centred.T @ vectors, dim=0) if count < width else vectors
    return squares.clamp(min=0) / (count - 1), directions
