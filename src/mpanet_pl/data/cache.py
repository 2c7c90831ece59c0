"""Images of one size, decoded once: a .npy file of uint8 (N, H, W, 3) for each dataset and size, mapped into memory.

Its name holds a digest of what went in: every path, with the file's size and time of change. Another name is another
cache, so a changed dataset never meets an old one. A cache is written aside under a lock, synced and renamed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import mmap
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.data.decode import Unreadable, decode, in_threads
from mpanet_pl.data.layout import listed
from mpanet_pl.errors import UserError
from mpanet_pl.progress import track

FOLDER = ".mpanet_cache"  # inside the dataset's root
FORMAT = 1  # counts up when the same files would give other bytes
WAY_OUT = "Put the cache elsewhere (data.cache=PATH) or read the image files directly (data.cache=false)."

logger = logging.getLogger(__name__)


class Store(Protocol):
    """Where the pixels of N images come from."""

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Put the images of these rows into `out` (B, H, W, 3)."""
        ...


class Images:
    """Images of one size by number: `images[index]` is uint8 (B, 3, H, W), contiguous in channels_last."""

    def __init__(self, store: Store, rows: dict[str, int], paths: Sequence[str], height: int, width: int) -> None:
        self._store = store
        self._row_of = rows
        self._rows = np.array([rows[path] for path in paths], dtype=np.int64)
        self._size = (height, width)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        images = torch.empty((len(index), *self._size, 3), dtype=torch.uint8)
        self._store.gather(self._rows[index.numpy()], images.numpy())
        return images.permute(0, 3, 1, 2)  # (B, 3, H, W)

    def of(self, paths: Sequence[str]) -> Images:
        """The same images under the numbers of another list, such as one split's."""
        return Images(self._store, self._row_of, paths, *self._size)


def open_images(
    root: Path,
    paths: Sequence[str],
    height: int,
    width: int,
    *,
    cache: bool | str | os.PathLike[str] = True,
    workers: int | None = None,
) -> Images:
    """The images at `paths` under `root`. Hand in all of a dataset's paths: they make its one cache of this size.

    cache: True keeps it in the dataset's folder, a path elsewhere; False decodes the files at every use.
    workers: threads that build it; None takes one for each core.
    """
    unique = sorted(set(paths))
    rows = {path: row for row, path in enumerate(unique)}
    store: Store
    if cache is False:
        store = Files(root, unique, height, width)
    else:
        folder = cache_folder(root, cache)
        store = _open_or_build(folder, root, unique, height, width, workers)
    return Images(store, rows, paths, height, width)


def cache_folder(root: Path, cache: bool | str | os.PathLike[str]) -> Path:
    """Where a dataset's caches lie: inside it, or under a path that may serve many datasets."""
    if isinstance(cache, bool):
        return root / FOLDER
    place = root.resolve()
    return Path(cache).expanduser() / f"{place.name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"


# --- the two stores


class Files:
    """The image files themselves, decoded at every use."""

    def __init__(self, root: Path, paths: Sequence[str], height: int, width: int) -> None:
        self._root, self._paths, self._size = root, paths, (height, width)

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        for image, row in zip(out, rows.tolist(), strict=True):
            try:
                image[:] = decode(self._root / self._paths[row], *self._size)
            except Unreadable as error:
                raise UserError(f"{self._root / self._paths[row]} cannot be read: {error}") from error


class MappedFile:
    """A finished cache. It can be pickled: a worker process maps the file anew."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        """Raises ValueError where the file is not what its name says: another shape, too short or too long."""
        self._path = path
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError("not the version of .npy that is written here")
            header = np.lib.format.read_array_header_1_0(file)
            start = file.tell()
            if header != (shape, False, np.dtype(np.uint8)):
                raise ValueError(f"holds {header}")
            if os.fstat(file.fileno()).st_size != start + np.prod(shape):
                raise ValueError("is cut short")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._pixels = np.ndarray(shape, np.uint8, self._map, start)

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        np.take(
            self._pixels, rows, axis=0, out=out, mode="clip"
        )  # any other mode goes through a copy; rows are in range
        self._map.madvise(mmap.MADV_DONTNEED)  # the pages stay in the system's cache, but are not this process's memory

    def __reduce__(self) -> tuple[Any, ...]:
        return _map_again, (self._path, self._pixels.shape)


def _map_again(path: Path, shape: tuple[int, int, int, int]) -> MappedFile:
    try:
        return MappedFile(path, shape)
    except (OSError, ValueError) as error:
        raise UserError(
            f"The cache {path} was removed or replaced while this run used it; start the run again."
        ) from error


# --- building


def _open_or_build(
    folder: Path, root: Path, paths: Sequence[str], height: int, width: int, workers: int | None
) -> MappedFile:
    path = folder / f"{height}x{width}-{_digest(root, paths, height, width)}.npy"
    shape = (len(paths), height, width, 3)
    if found := _finished(path, shape):
        return found
    try:
        with _locked(folder):
            if found := _finished(path, shape):  # by the run that held the lock before
                return found
            for stale in (*folder.glob("*.building"), *folder.glob(f"{height}x{width}-*.npy")):
                stale.unlink()
            _check_room(folder, int(np.prod(shape)))
            _build(path, root, paths, shape, workers)
    except OSError as error:
        raise UserError(
            f"The cache of {root} cannot be kept in {folder}: {error.strerror or error}. {WAY_OUT}"
        ) from error
    return MappedFile(path, shape)


def _digest(root: Path, paths: Sequence[str], height: int, width: int) -> str:
    """Changes with any image's path, size or time of change."""
    digest = hashlib.sha256(f"{FORMAT} {height} {width}".encode())
    missing = []
    for path in paths:
        try:
            stat = os.stat(root / path)
            digest.update(os.fsencode(f"\0{path}\0{stat.st_size} {stat.st_mtime_ns}"))
        except OSError:
            missing.append(path)
    if missing:
        raise UserError(f"{len(missing)} of {len(paths)} images of {root} are missing: {listed(missing)}")
    return digest.hexdigest()[:16]


def _finished(path: Path, shape: tuple[int, int, int, int]) -> MappedFile | None:
    try:
        return MappedFile(path, shape)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("The cache %s %s: it is built anew.", path, error)
        return None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one run builds in a folder; the system lets go of the lock of a run that dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("Another run builds the cache in %s; waiting for it.", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"only {free / 1e9:.2f} GB are free")


def _build(path: Path, root: Path, paths: Sequence[str], shape: tuple[int, int, int, int], workers: int | None) -> None:
    aside = path.with_suffix(".building")
    try:
        with aside.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            write = partial(_write_row, file.fileno(), file.tell(), root, paths, shape)
            what = f"Caching {root.name} at {shape[1]}x{shape[2]}"
            unreadable = [
                fault for fault in track(in_threads(write, range(len(paths)), workers), what, len(paths)) if fault
            ]
            if unreadable:
                raise UserError(f"{len(unreadable)} images of {root} cannot be read: {listed(unreadable)}")
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _write_row(file: int, start: int, root: Path, paths: Sequence[str], shape: tuple[int, ...], row: int) -> str | None:
    """Decode one image into its place; what is wrong with the image, if anything."""
    try:
        pixels = memoryview(decode(root / paths[row], shape[1], shape[2]).tobytes())
    except Unreadable as error:
        return f"{paths[row]} ({error})"
    place = start + row * len(pixels)
    while pixels:  # a disk that runs full writes a part first, and fails at the next
        written = os.pwrite(file, pixels, place)
        pixels, place = pixels[written:], place + written
    return None
