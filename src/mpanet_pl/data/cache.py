"""The cache: every image of a dataset decoded once, one file for each dataset and size.

Its name holds a digest of what went in: every path, with the file's size and time of change. Another name is another
cache, so a changed dataset never meets an old one. A cache is written aside under a lock, synced and renamed. Beside it
lies a list of its paths, by which the next one knows whether it takes its place.
"""

import errno
import hashlib
import logging
import os
import platform
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import PIL

from mpanet_pl.data.catalogue import Splits
from mpanet_pl.data.decode import Unreadable, in_threads
from mpanet_pl.data.faults import listed
from mpanet_pl.data.images import Files, Images, Joined, MappedFile
from mpanet_pl.data.listing import missing_files
from mpanet_pl.errors import UserError
from mpanet_pl.system.files import in_turn
from mpanet_pl.system.progress import track

FOLDER = ".mpanet_cache"  # inside the dataset's root
PATHS = ".paths"  # beside each cache: whose it is, and its paths
DECODED_BY = f"2, Pillow {PIL.__version__}"  # the number counts up when `decode` would give other bytes

logger = logging.getLogger(__name__)


def open_images(
    root: Path,
    paths: Sequence[str],
    height: int,
    width: int,
    *,
    cache: bool | str | os.PathLike[str] = True,
    workers: int | None = None,
) -> Images:
    """The images at `paths` under `root`. All paths of a dataset make its one cache of this size, others one beside it.

    cache: True keeps it in the dataset's folder, a path elsewhere; False decodes the files at every use.
    workers: threads that build it; None takes one for each core.
    """
    files = Files(root, sorted(set(paths)), height, width)
    pixels = files if cache is False else _open_or_build(cache_folder(root, cache), files, workers)
    return Images(pixels, {path: row for row, path in enumerate(files.paths)}, paths)


def open_splits(
    root: Path,
    splits: Splits,
    height: int,
    width: int,
    *,
    cache: bool | str | os.PathLike[str] = True,
    workers: int | None = None,
) -> Images:
    """The images of the training and the test split. Of several datasets each has the cache that it has alone."""
    paths = (*splits.train.paths, *splits.test.paths)
    if splits.roots is None:
        return open_images(root, paths, height, width, cache=cache, workers=workers)
    parts = [
        open_images(root.folder, root.paths, height, width, cache=cache, workers=workers)
        for root in splits.roots.values()
    ]
    every = (f"{name}/{path}" for name, root in splits.roots.items() for path in root.paths)
    row_of = {path: row for row, path in enumerate(every)}
    return Images(Joined(parts, (height, width, 3)), row_of, paths)


def cache_folder(root: Path, cache: bool | str | os.PathLike[str]) -> Path:
    """Where a dataset's caches lie: inside it, or under a path that may serve many datasets."""
    if isinstance(cache, bool):
        return root / FOLDER
    place = root.resolve()
    return Path(cache).expanduser() / f"{place.name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"


def _open_or_build(folder: Path, files: Files, workers: int | None) -> MappedFile:
    size = "{1}x{2}".format(*files.shape)
    path = folder / f"{size}-{_digest(files)}.npy"
    if found := _finished(path, files):
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with in_turn(folder / "lock", f"Another run builds the cache in {folder}; waiting for it."):
            if found := _finished(path, files):  # by the run that held the lock before
                return found
            owner = "" if folder == files.root / FOLDER else platform.node()
            _sweep_up(folder, size, files, owner)
            _check_room(folder, int(np.prod(files.shape)))
            _build(path, files, workers)
            path.with_suffix(PATHS).write_bytes(b"\0".join(map(os.fsencode, (owner, *files.paths))))
    except OSError as error:
        raise UserError(
            f"The cache of {files.root} cannot be kept in {folder}: {error.strerror or error}. "
            "Put it elsewhere (data.cache=PATH) or read the image files directly (data.cache=false)."
        ) from error
    return MappedFile(path, files.shape)


def _digest(files: Files) -> str:
    """Changes with the size asked for and with any image's path, size or times: a renamed file keeps one of the two."""
    digest = hashlib.sha256(f"{DECODED_BY} {files.shape}".encode())
    missing = []
    for path in files.paths:
        try:
            stat = os.stat(files.root / path)
            digest.update(os.fsencode(f"\0{path}\0{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"))
        except OSError:
            missing.append(path)
    if missing:
        raise UserError(f"{len(missing)} of {len(files.paths)} images of {files.root} are missing: {listed(missing)}")
    return digest.hexdigest()[:16]


def _finished(path: Path, files: Files) -> MappedFile | None:
    try:
        return MappedFile(path, files.shape)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("The cache %s is damaged (%s); it is built anew.", path, error)
        return None


def _sweep_up(folder: Path, size: str, files: Files, owner: str) -> None:
    """Remove what dead builders left, and the caches whose images are all asked for now, or have gone.

    A cache of fewer images removes no larger one. Machines with copies of their own under one `data.cache` make caches
    of the same paths from other files: each sweeps up after itself.
    """
    for leftover in folder.glob("*.building"):
        leftover.unlink()
    for listing in folder.glob(f"{size}-*{PATHS}"):
        theirs, *paths = map(os.fsdecode, listing.read_bytes().split(b"\0"))
        if theirs == owner and (set(paths) <= set(files.paths) or missing_files(files.root, paths)):
            listing.with_suffix(".npy").unlink(missing_ok=True)
            listing.unlink()


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"it needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free")


def _build(path: Path, files: Files, workers: int | None) -> None:
    aside = path.with_suffix(".building")
    what = f"Caching {files.root.name} at {files.shape[1]}x{files.shape[2]}"
    try:
        with aside.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": files.shape}
            np.lib.format.write_array_header_1_0(file, header)
            rows, faults = range(len(files.paths)), []
            for row in track(in_threads(partial(_decoded, files), rows, workers), what, len(rows)):
                if isinstance(row, str):
                    faults.append(row)
                elif not faults:
                    file.write(row)
            if faults:
                raise UserError(
                    f"{len(faults)} images of {files.root} cannot be read: {listed(faults)}\n"
                    "The full check: python -m mpanet_pl.prepare dataset=… data_dir=…"
                )
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _decoded(files: Files, row: int) -> bytes | str:
    """The pixels of one image, or what is wrong with it."""
    try:
        return files.decode(row).tobytes()
    except Unreadable as error:
        return f"{files.paths[row]} ({error})"
