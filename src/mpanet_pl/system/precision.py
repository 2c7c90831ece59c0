"""Where digits matter: statistics, distances and softmaxes are computed in float32 or better."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


def best_precision(accelerator: str) -> str:
    """What `precision=auto` means: bf16 where the processor multiplies it natively, float16 on any other GPU."""
    if accelerator == "cpu":
        native = any(getattr(torch.cpu, f"_is_{unit}_supported", bool)() for unit in ("amx_tile", "avx512_bf16"))
        return "bf16-mixed" if native else "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Float32 products in float32, whatever autocast or the matrix product's precision are set to outside."""
    before = _Precisions()
    torch.set_float32_matmul_precision("highest")  # of both ways to say it, this one refuses no state
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        before.restore()


class _Precisions:
    """The precision of matrix products: one setting for all, and since torch 2.9 one for each backend.

    Once a backend's own was set, torch refuses to read the one for all.
    """

    def __init__(self) -> None:
        backends: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]
        self.own: list[tuple[Any, str]] = [
            (backend, backend.fp32_precision) for backend in backends if hasattr(backend, "fp32_precision")
        ]
        try:
            self.of_all: str | None = torch.get_float32_matmul_precision()
        except RuntimeError:
            self.of_all = None

    def restore(self) -> None:
        if self.of_all is not None:
            torch.set_float32_matmul_precision(self.of_all)
        for backend, precision in self.own:
            backend.fp32_precision = "none"  # that of its parent
            if backend.fp32_precision != precision:
                backend.fp32_precision = precision
