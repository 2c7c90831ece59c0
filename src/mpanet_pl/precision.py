"""Where digits matter: statistics, distances and softmaxes are computed in float32 or better."""

import torch
from torch import Tensor


def precise(values: Tensor) -> Tensor:
    """`values` in float32 at least.

    >>> precise(torch.ones(2, dtype=torch.bfloat16)).dtype, precise(torch.ones(2, dtype=torch.float64)).dtype
    (torch.float32, torch.float64)
    """
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
