"""One image file as pixels, the way the released pipeline reads it, and many of them in parallel threads.

Pillow lets go of the interpreter's lock while it decodes and resizes, so threads share the cores nearly as processes
would, without a process's start, a fork beside torch's threads, or an orphan when the run is killed.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from mpanet_pl.system.cores import usable_cores

T = TypeVar("T")
R = TypeVar("R")


class Unreadable(Exception):
    """A file that is no whole image."""


def decode(path: Path, height: int, width: int) -> np.ndarray:
    """RGB pixels, resized bilinearly: (height, width, 3) uint8. A grey image has three equal channels."""
    return resized(read_rgb(path), height, width)


def resized(image: Image.Image, height: int, width: int) -> np.ndarray:
    """The same of an image that is open; raises `Unreadable` where its pixels cannot be read."""
    try:
        return np.asarray(_to_rgb(image).resize((width, height), Image.Resampling.BILINEAR))  # (H, W, 3)
    except Unreadable:
        raise
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
        raise Unreadable(str(error) or type(error).__name__) from error


def read_rgb(path: Path) -> Image.Image:
    """The whole image in its own size, as stored: what EXIF says of its orientation is not followed."""
    try:
        refuse_irregular(path)
        with Image.open(path) as image:
            return _to_rgb(image)
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
        raise Unreadable(str(error) or type(error).__name__) from error


def refuse_irregular(path: Path) -> None:
    """A pipe would be waited for, and a device read, without end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is no regular file")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise Unreadable("its pixels are floating-point numbers of no known range: store 8 or 16 bits")
    if image.mode.startswith("I"):  # Pillow's own conversion would clip to white
        deep = np.asarray(image).astype(np.int64)
        upper = deep >> 8 if deep.max() > 255 else deep  # of 16 bits the upper eight, unless no more than 8 are used
        image = Image.fromarray(upper.clip(0, 255).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def in_threads(work: Callable[[T], R], items: Iterable[T], workers: int | None) -> Iterator[R]:
    """`work(item)` of every item in order, on that many threads (None: one for each core, up to 16)."""
    cores = min(usable_cores(), 16)  # more would wait for the interpreter
    waiting = iter(items)
    with ThreadPoolExecutor(max(1, cores if workers is None else workers)) as pool:
        while some := list(islice(waiting, 250)):  # what waits takes memory
            yield from pool.map(work, some)
