"""Re-ranking."""

from typing import Protocol

from torch import Tensor


class Reranker(Protocol):
    name: str

    def __call__(self, queries: Tensor, gallery: Tensor) -> Tensor: ...
