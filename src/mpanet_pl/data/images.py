"""Images of one size by number, from the files themselves or from a cache of their pixels.

A cache is a .npy file of uint8 (N, H, W, 3), mapped into memory: a batch is one copy out of it.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.data.decode import Unreadable, decode
from mpanet_pl.errors import UserError

Shape = tuple[int, int, int, int]  # (N, H, W, 3)


class Pixels(Protocol):
    """Where the pixels of N images come from."""

    shape: Shape

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Put the images of these rows into `out` (B, H, W, 3)."""
        ...


class Images:
    """`images[index]` is uint8 (B, 3, H, W), contiguous in channels_last; `row_of` a path is where its pixels lie."""

    def __init__(self, pixels: Pixels, row_of: dict[str, int], paths: Sequence[str]) -> None:
        self._pixels = pixels
        self._row_of = row_of
        self._rows = np.array([row_of[path] for path in paths], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        images = torch.empty((len(index), *self._pixels.shape[1:]), dtype=torch.uint8)
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise IndexError(f"Images have the numbers 0 to {len(self) - 1}, got {index.tolist()}")
        self._pixels.gather(self._rows[index.numpy()], images.numpy())
        return images.permute(0, 3, 1, 2)  # (B, 3, H, W)

    def of(self, paths: Sequence[str]) -> Images:
        """The same images under the numbers of another list, such as one split's."""
        return Images(self._pixels, self._row_of, paths)


class Joined:
    """The images of several, one after another."""

    def __init__(self, parts: Sequence[Images], size: tuple[int, int, int]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self.starts[-1]), *size)

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        whose = np.searchsorted(self.starts, rows, side="right") - 1
        for part in np.unique(whose):
            mine = np.flatnonzero(whose == part)
            found = self.parts[part][torch.from_numpy(rows[mine] - self.starts[part])]
            out[mine] = found.permute(0, 2, 3, 1).numpy()


class Files:
    """The image files under a root, decoded at every use."""

    def __init__(self, root: Path, paths: Sequence[str], height: int, width: int) -> None:
        self.root = root
        self.paths = paths
        self.shape = (len(paths), height, width, 3)

    def decode(self, row: int) -> np.ndarray:
        """One image, (H, W, 3); raises `Unreadable`."""
        _, height, width, _ = self.shape
        return decode(self.root / self.paths[row], height, width)

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        for image, row in zip(out, rows.tolist(), strict=True):
            try:
                image[:] = self.decode(row)
            except Unreadable as error:
                raise UserError(f"{self.root / self.paths[row]} cannot be read: {error}") from error


class MappedFile:
    """A finished cache. It can be pickled: a worker process maps the file anew."""

    def __init__(self, path: Path, shape: Shape) -> None:
        """Raises ValueError where the file does not hold exactly this shape."""
        self.path = path
        self.shape = shape
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("another version of .npy")
            header = np.lib.format.read_array_header_1_0(file)
            start, size = file.tell(), file.seek(0, 2)
            if header != (shape, False, np.dtype(np.uint8)) or size != start + np.prod(shape):
                raise ValueError(f"{size} bytes with the header {header}, not images of shape {shape}")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._pixels = np.ndarray(shape, np.uint8, self._map, start)

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        np.take(self._pixels, rows, axis=0, out=out, mode="clip")  # in range already; "raise" would copy twice
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._map.madvise(mmap.MADV_DONTNEED)  # the pages stay in the system's cache, not in this process's memory

    def __reduce__(self) -> tuple[Any, ...]:
        return _map_again, (self.path, self.shape)


def _map_again(path: Path, shape: Shape) -> MappedFile:
    try:
        return MappedFile(path, shape)
    except (OSError, ValueError) as error:
        gone = f"The cache {path} was removed or replaced while this run used it; start the run again."
        raise UserError(gone) from error
