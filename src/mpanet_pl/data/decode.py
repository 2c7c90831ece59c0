"""One image file as pixels, the way the released pipeline reads it, and many of them in parallel threads.

Pillow lets go of the interpreter's lock while it decodes and resizes, so threads share the cores nearly as processes
would, without a process's start, a fork beside torch's threads, or an orphan when the run is killed.
"""

import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from mpanet_pl.system.cores import usable_cores
from mpanet_pl.system.pictures import FORMATS, resized, to_rgb
from mpanet_pl.system.pictures import Unreadable as Unreadable

T = TypeVar("T")
R = TypeVar("R")


def decode(path: Path, height: int, width: int) -> np.ndarray:
    """RGB pixels, resized bilinearly: (height, width, 3) uint8. A grey image has three equal channels."""
    return resized(read_rgb(path), height, width)


def read_rgb(path: Path) -> Image.Image:
    """The whole image in its own size, upright."""
    try:
        refuse_irregular(path)
        with Image.open(path, formats=FORMATS) as image:
            return to_rgb(image)
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
        raise Unreadable(str(error) or type(error).__name__) from error


def refuse_irregular(path: Path) -> None:
    """A pipe would be waited for, and a device read, without end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is no regular file")


def in_threads(work: Callable[[T], R], items: Iterable[T], workers: int | None, *, depth: int = 250) -> Iterator[R]:
    """`work(item)` of every item in order, on that many threads (None: one for each core, up to 16).

    depth: how many are done before they are asked for; what waits takes memory.
    """
    cores = min(usable_cores(), 16)  # more would wait for the interpreter
    waiting = iter(items)
    with ThreadPoolExecutor(max(1, cores if workers is None else workers)) as pool:
        under_way: deque[Future[R]] = deque(pool.submit(work, item) for item in islice(waiting, depth))
        try:
            while under_way:
                result = under_way.popleft().result()
                under_way.extend(pool.submit(work, item) for item in islice(waiting, 1))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
