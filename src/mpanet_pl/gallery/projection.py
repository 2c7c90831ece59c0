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

COMPARED = 2048  # training images whose pairs say how cosines of whole and small vectors go together
NOTHING = np.empty((2, 0))


class Projection:
    """x -> (x - mean) @ components, scaled to length one; `mean` (D,), `components` (D, d).

    cosines: (2, Q) ascending quantiles of the cosines of pairs of training images, of whole vectors and of small ones.
    """

    def __init__(self, mean: Tensor, components: Tensor, cosines: np.ndarray = NOTHING) -> None:
        self.mean, self.components, self.cosines = mean.float(), components.float(), cosines

    @property
    def dimension(self) -> int:
        return self.components.shape[1]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.mean.numpy().tobytes() + self.components.numpy().tobytes()).hexdigest()

    def __call__(self, embeddings: Tensor) -> Tensor:
        mean, components = self.mean.to(embeddings.device), self.components.to(embeddings.device)
        return normalize((embeddings - mean) @ components)

    def translated(self, cosine: float, *, back: bool = False) -> float:
        """The cosine of small vectors that as many pairs of training images reach as reach this one of whole ones."""
        whole, small = reversed(self.cosines) if back else self.cosines
        if not whole.size or cosine > whole[-1]:
            raise UserError(
                f"A cosine of {cosine:.3f} is above all from which the gallery's small vectors were learnt."
            )
        return float(np.interp(cosine, whole, small))

    def save(self, path: Path) -> None:
        with written_aside(path) as aside, aside.open("wb") as file:
            np.savez(file, mean=self.mean.numpy(), components=self.components.numpy(), cosines=self.cosines)

    @classmethod
    def read(cls, path: Path) -> Projection:
        try:
            with np.load(path, allow_pickle=False) as stored:
                mean, components = (torch.from_numpy(stored[name]) for name in ("mean", "components"))
                cosines = stored["cosines"]
            if mean.ndim != 1 or components.ndim != 2 or len(mean) != len(components) or len(cosines) != 2:
                raise ValueError(f"shapes {tuple(mean.shape)}, {tuple(components.shape)} and {cosines.shape}")
            return cls(mean, components, cosines)
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
    some = embeddings[torch.linspace(0, count - 1, min(count, COMPARED)).long()]
    whole = _quantiles(normalize(some))
    made = [Projection(mean, components[:, :dimension].contiguous()) for dimension in dimensions]
    for projection in made:
        projection.cosines = np.stack([whole, _quantiles(projection(some))])
    return made


def _quantiles(vectors: Tensor) -> np.ndarray:
    """Of the cosines of all pairs of unit vectors (N, D), ever closer together towards the most similar."""
    first, second = np.triu_indices(len(vectors), 1)
    return np.quantile((vectors @ vectors.T).numpy()[first, second], 1 - np.geomspace(1, 1e-6, 512))


def _principal(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Variances, descending, and directions (D, K) of float64 rows (N, D), from the smaller of the two products."""
    count, width = centred.shape
    small = centred @ centred.T if count < width else centred.T @ centred
    squares, vectors = (part.flip(-1) for part in torch.linalg.eigh(small))
    directions = normalize(centred.T @ vectors, dim=0) if count < width else vectors
    return squares.clamp(min=0) / (count - 1), directions
