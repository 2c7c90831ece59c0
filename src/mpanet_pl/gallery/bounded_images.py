"""Images that strangers hand in, opened within bounds: kinds that start no program, so many pixels, one frame.

Imported without torch, because processes that decode uploads import it.
"""

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from mpanet_pl.errors import UserError
from mpanet_pl.system.pictures import FORMATS, Unreadable, resized, to_rgb

MOST_PIXELS = 50_000_000  # a crop of a person has some ten thousand, a camera's frame a few million
LONGEST = 4096  # characters of a path


@contextmanager
def opened(file: str | Path | BinaryIO, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """The image, its pixels not read yet; raises `Unreadable`."""
    try:
        image = Image.open(file, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable(f"it has more than the {MOST_PIXELS / 1e6:.0f} megapixels that are read") from error
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
        raise Unreadable(f"it is no {', '.join(formats[:-1])} or {formats[-1]} image") from error
    with image:
        _check_pixels(image)
        yield image


def decoded(path: str | Path, height: int, width: int) -> np.ndarray:
    """RGB pixels as training reads them, (height, width, 3) uint8; raises `Unreadable`."""
    if not Path(path).is_file():
        raise Unreadable("no such file")
    with opened(path) as image:
        _check_still(image)
        return resized(image, height, width)


def pixels(image: str | Path | Image.Image, height: int, width: int) -> np.ndarray:
    """The same of a file, or of an image in memory, or a sentence."""
    named = "The image" if isinstance(image, Image.Image) else image
    try:
        if not isinstance(image, Image.Image):
            return decoded(image, height, width)
        _check_pixels(image)
        _check_still(image)
        return resized(image, height, width)
    except Unreadable as error:
        raise UserError(f"{named} cannot be read: {error}") from error


def thumbnail(file: str | Path | BinaryIO, box: tuple[int, int]) -> bytes:
    """A JPEG of at most `box` (width, height); raises `Unreadable`."""
    with opened(file) as image:
        try:
            small, made = to_rgb(image), io.BytesIO()
            small.thumbnail(box, Image.Resampling.BILINEAR)
            small.save(made, "JPEG", quality=85)
        except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
            raise Unreadable(str(error) or type(error).__name__) from error
    return made.getvalue()


def thumbnail_below(root: str | Path, path: str, box: tuple[int, int]) -> bytes | None:
    """None where there is no picture of that name below `root`, whatever the name is."""
    file = below(root, path)
    try:
        if file is not None:
            with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as content:  # a pipe would be waited for
                if stat.S_ISREG(os.fstat(content.fileno()).st_mode):
                    return thumbnail(content, box)
    except (Unreadable, OSError):
        pass
    return None


def below(root: str | Path, path: str) -> Path | None:
    """Where a relative path leads, if that is below `root` for sure, whatever links there are.

    >>> below("/usr", "../etc/passwd"), below("/usr", "/etc/passwd"), below("/usr", "a\\0"), below("/usr", "a" * 10**5)
    (None, None, None, None)
    """
    if not path or len(path) > LONGEST or os.path.isabs(path):
        return None
    try:
        place, floor = (Path(root) / path).resolve(strict=True), Path(root).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # a NUL and a circle of links are the latter two
        return None
    return place if floor in place.parents else None


def _check_pixels(image: Image.Image) -> None:
    if (count := image.width * image.height) > MOST_PIXELS:
        raise Unreadable(f"{count / 1e6:.0f} megapixels are more than the {MOST_PIXELS / 1e6:.0f} that are read")


def _check_still(image: Image.Image) -> None:
    """A phone's photograph may hold smaller copies of itself (MPO): it is one image."""
    if getattr(image, "is_animated", False) and image.format != "MPO":  # counting frames may take for ever
        raise Unreadable("it has several frames: give one image")
