"""Where digits matter: statistics, distances and softmaxes are computed in float32 or better."""

import torch
from torch import Tensor


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """
    >>> at_least_float32(torch.bfloat16), at_least_float32(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype, torch.float32)


def precise(values: Tensor) -> Tensor:
    """`values` in float32 at least."""
    return values.to(at_least_float32(values.dtype))
