"""Work in parts, on the threads that torch would use: for what is many small steps rather than one large one."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def on_threads(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """`work(part)` of every part, in order, on as many threads as torch uses here; each of them has torch to itself.

    Where steps are small, threads that torch wakes for each wait longer than they work.
    """
    threads, gradients, inference = torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    if threads == 1:
        return [work(part) for part in parts]

    def alone(part: T) -> R:
        torch.set_num_threads(1)  # of this thread, and of those that start later
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return work(part)

    try:
        return list(_pool(threads).map(alone, parts))
    finally:
        torch.set_num_threads(threads)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)
