"""Random numbers that are a function of (seed, epoch, row, occurrence, view), the same on every device.

A generator would give a row other numbers in another batch, on another rank or after a resume; a hash does not.
"""

import math

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # as int64, like every number here: its products wrap
BETA_TRIES = 32  # all fail for one number of 4e9 at beta 1, more rarely below


def image_keys(seed: int, epoch: int, index: Tensor, occurrence: Tensor | None = None, view: int = 0) -> Tensor:
    """(B,) int64: what all random numbers of an image are made of.

    `index` (B,) are rows of the catalogue, `occurrence` (B,) says how often each came before in the epoch (None:
    never), `view` which of an image's views is drawn.
    """
    keys = _mix(_mix(_mix(torch.tensor(seed)) + epoch) + index)
    return _mix(_mix(keys if occurrence is None else keys + occurrence) + view)


def uniforms(keys: Tensor, count: int, purpose: int = 0) -> Tensor:
    """(B, count) float64, uniform in [0, 1); another `purpose` has other numbers.

    >>> keys = image_keys(1, 0, torch.arange(4))
    >>> torch.equal(uniforms(keys, 9)[2:], uniforms(keys[2:], 9))
    True
    """
    return _uniforms_at(keys, torch.arange(count, device=keys.device), purpose)


def normals_at(keys: Tensor, columns: Tensor, purpose: int) -> Tensor:
    """(B, N) float64, standard normal (Box and Muller, 1958): of any columns (N,), the same whichever others are drawn.

    >>> keys = image_keys(1, 0, torch.arange(4))
    >>> torch.equal(normals_at(keys, torch.arange(9), 0)[:, 5:6], normals_at(keys, torch.tensor([5]), 0))
    True
    """
    radius = (-2 * torch.log1p(-_uniforms_at(keys, 2 * columns, purpose))).sqrt()
    return radius * torch.cos(2 * math.pi * _uniforms_at(keys, 2 * columns + 1, purpose))


def _uniforms_at(keys: Tensor, columns: Tensor, purpose: int) -> Tensor:
    numbers = columns + 1 + (purpose << 32)
    return _shifted(_mix(keys[:, None] + numbers * GOLDEN), 11).double() * 2.0**-53  # 53 bits, as float64 holds


def betas(keys: Tensor, count: int, beta: float, purpose: int) -> Tensor:
    """(B, count) float64 of the symmetric Beta(beta, beta), beta at most 1 (Jöhnk, Metrika 1964)."""
    drawn = uniforms(keys, count * BETA_TRIES * 2, purpose).view(len(keys), count, BETA_TRIES, 2)
    x, y = drawn.pow(1 / beta).unbind(-1)
    total = x + y
    first = (total <= 1).long().argmax(-1, keepdim=True)
    return (x / total.clamp(min=torch.finfo(total.dtype).tiny)).gather(-1, first)[..., 0]


def integer_below(uniform: Tensor, bound: Tensor | int) -> Tensor:
    return (uniform * bound).long()  # uniform in 0 … bound - 1


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele, Lea and Flood, OOPSLA 2014)."""
    x = (x ^ _shifted(x, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    x = (x ^ _shifted(x, 27)) * (0x94D049BB133111EB - (1 << 64))
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # a logical shift: torch's own keeps the sign
