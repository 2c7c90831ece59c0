"""Images that strangers hand in, read with bounds: no animation, no flood of pixels, nothing that is not a file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from mpanet_pl.data.decode import Unreadable, resized
from mpanet_pl.errors import UserError

T = TypeVar("T")
R = TypeVar("R")
MOST_PIXELS = 50_000_000  # a crop of a person has some ten thousand, a camera's frame a few million


def check(image: Image.Image) -> None:
    """Raises `Unreadable` for what nobody should have handed in, before a pixel is read."""
    try:
        frames = getattr(image, "n_frames", 1)
    except Exception as error:  # as above: some formats look through the whole file
        raise Unreadable(str(error) or type(error).__name__) from error
    if frames > 1:
        raise Unreadable(f"it has {frames} frames: give one image")
    if (count := image.width * image.height) > MOST_PIXELS:
        raise Unreadable(f"{count / 1e6:.0f} megapixels are more than the {MOST_PIXELS / 1e6:.0f} that are read")


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """The image of a file, within bounds, its pixels not read yet; raises `Unreadable`."""
    if not Path(path).is_file():
        raise Unreadable("no such file")
    try:
        image = Image.open(path)
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
        raise Unreadable(str(error) or type(error).__name__) from error
    with image:
        check(image)
        yield image


def decoded(path: str | Path, height: int, width: int) -> np.ndarray:
    """RGB pixels as training reads them, (height, width, 3) uint8; raises `Unreadable`."""
    with opened(path) as image:
        return resized(image, height, width)


def pixels(image: Image.Image, height: int, width: int) -> np.ndarray:
    """The same of an image in memory, or a sentence."""
    try:
        check(image)
        return resized(image, height, width)
    except Unreadable as error:
        raise UserError(f"The image cannot be read: {error}") from error


def pixels_of_file(path: str | Path, height: int, width: int) -> np.ndarray:
    try:
        return decoded(path, height, width)
    except Unreadable as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def ahead(work: Callable[[T], R], items: Iterable[T], *, workers: int, depth: int) -> Iterator[R]:
    """`work(item)` of every item in order, up to `depth` of them before they are asked for, on that many threads."""
    waiting = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future[R]] = deque(pool.submit(work, item) for item in islice(waiting, depth))
        try:
            while under_way:
                result = under_way.popleft().result()
                under_way.extend(pool.submit(work, item) for item in islice(waiting, 1))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
