"""Tensors against the digests that golden cases hold of them."""

from typing import Any

import pytest
from torch import Tensor


def fits(tensor: Tensor, digest: dict[str, Any]) -> None:
    """Shape, norm and three numbers at either end."""
    flat = tensor.detach().double().flatten()
    assert list(tensor.shape) == digest["shape"]
    ours = [flat.norm().item(), *flat[:3].tolist(), *flat[-3:].tolist()]
    assert ours == pytest.approx([digest["norm"], *digest["first"], *digest["last"]], rel=1e-9, abs=1e-11)


def has(tensor: Tensor, entries: dict[str, Any]) -> None:
    """A few numbers, and the norm where it is given."""
    flat = tensor.detach().flatten()
    assert flat[entries["flat_index"]].tolist() == pytest.approx(entries["value"], rel=1e-9, abs=1e-11)
    if "norm" in entries:
        assert flat.norm().item() == pytest.approx(entries["norm"], rel=1e-10)
