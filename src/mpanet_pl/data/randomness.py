"""Random numbers that are a function of (seed, epoch, row of the catalogue), the same on every device.

A generator would give a row other numbers in another batch, on another rank or after a resume; a hash does not.
"""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # as int64, like every number here: its products wrap


def uniforms(seed: int, epoch: int, index: Tensor, count: int) -> Tensor:
    """(B, count) float64, uniform in [0, 1), for the rows `index` (B,).

    >>> index = torch.arange(4)
    >>> torch.equal(uniforms(1, 0, index, 9)[2:], uniforms(1, 0, index[2:], 9))
    True
    """
    key = _mix(_mix(torch.tensor(seed)) + epoch)
    image = _mix(key + index)[:, None]  # (B, 1)
    columns = torch.arange(1, count + 1, device=index.device) * GOLDEN
    return _shifted(_mix(image + columns), 11).double() * 2.0**-53  # 53 bits, which float64 holds exactly


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele, Lea and Flood, OOPSLA 2014)."""
    x = (x ^ _shifted(x, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    x = (x ^ _shifted(x, 27)) * (0x94D049BB133111EB - (1 << 64))
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # a logical shift: torch's own keeps the sign
