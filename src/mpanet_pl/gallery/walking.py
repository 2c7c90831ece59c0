"""The images below a folder, however many: their paths go straight into Arrow's columns."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mpanet_pl.data.faults import listed
from mpanet_pl.data.listing import IMAGE_SUFFIXES
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.shards import TEXT

AT_ONCE = 65_536
TRIED = IMAGE_SUFFIXES | {".avif", ".gif", ".heic", ".heif", ".jfif", ".jp2"}  # some of them end in skipped.csv


def is_readable_name(name: str) -> bool:
    """
    >>> [is_readable_name(name) for name in ("a.JPG", "a.heic", "a.gif", ".a.png", "a.txt")]
    [True, True, True, False, False]
    """
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in TRIED


def walked(folder: Path, notes: list[str]) -> pa.ChunkedArray:
    """The absolute paths of all images below a folder; `notes` gets a sentence for what was left out."""
    links: list[str] = []
    faults: list[str] = []
    found = _walk(str(folder), links, faults)
    chunks = []
    while some := list(islice(found, AT_ONCE)):
        chunks.append(pa.array(some, TEXT))
    if links:
        notes.append(f"{len(links)} symbolic links to folders were not followed: {listed(sorted(links))}.")
    if faults:
        notes.append(f"{len(faults)} folders cannot be read: {listed(sorted(faults))}.")
    if not chunks:
        raise UserError(" ".join([f"{folder} holds no image.", *notes]))
    return pa.chunked_array(chunks, TEXT)


def stamps(paths: pa.ChunkedArray, root: Path) -> dict[str, pa.Array]:
    """Size and time of change of each file, null where it is not there."""
    sizes, times = np.full(len(paths), -1, np.int64), np.zeros(len(paths), np.int64)
    for number, path in enumerate(path for chunk in paths.chunks for path in chunk.to_pylist()):
        try:
            stat = os.stat(os.path.join(root, path))
        except (OSError, ValueError):
            continue
        sizes[number], times[number] = stat.st_size, stat.st_mtime_ns
    return {"size": pa.array(sizes, mask=sizes < 0), "modified": pa.array(times, mask=sizes < 0)}


def absolute(paths: Any, folder: str | Path) -> Any:
    joined = pc.binary_join_element_wise(pa.scalar(str(folder), TEXT), paths, pa.scalar("/", TEXT))
    return pc.if_else(pc.starts_with(paths, "/"), paths, joined)


def relative(paths: Any, root: Path | None) -> Any:
    """Those below `root` without it."""
    if root is None:
        return paths
    prefix = f"{root}/"
    return pc.if_else(pc.starts_with(paths, prefix), pc.utf8_slice_codeunits(paths, len(prefix)), paths)


def _walk(folder: str, links: list[str], faults: list[str]) -> Iterator[str]:
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        (links if entry.is_symlink() else waiting).append(entry.path)
                    elif is_readable_name(entry.name):
                        yield _checked(entry.path)
        except OSError as error:
            faults.append(f"{place} ({error.strerror})")


def _checked(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f"{path!r} has a name that is not UTF-8: rename it.") from None
    return path
