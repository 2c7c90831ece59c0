"""What lies in a dataset's folders and stands in its split files; no image is opened."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.io import loadmat

from mpanet_pl.data.decode import refuse_irregular
from mpanet_pl.data.faults import Faults
from mpanet_pl.errors import UserError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; hidden ones are nobody's."""
    return sorted(entry.name for entry in _entries(folder) if not entry.name.startswith(".") and entry.is_dir())


def images_in(folder: Path) -> list[str]:
    """The names of the images in a folder, sorted, links that lead nowhere too; hidden and other files are left out."""
    return sorted(entry.name for entry in _entries(folder) if is_image(entry.name) and not entry.is_dir())


def is_image(name: str) -> bool:
    """
    >>> [is_image(name) for name in ("0001.JPG", "ein Bild.png", "._0001.jpg", "Thumbs.db")]
    [True, True, False, False]
    """
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_number(text: str) -> bool:
    """
    >>> [is_number(text) for text in ("0012", "twelve", "9" * 19)]  # the last is more than a column of numbers holds
    [True, False, False]
    """
    return text.isdecimal() and len(text) < 19


def leads_out(path: str) -> bool:
    """
    >>> leads_out("/etc/a.jpg"), leads_out("cam1/../../a.jpg"), leads_out("cam1/a..jpg")
    (True, True, False)
    """
    return path.startswith("/") or ".." in path.split("/")


def missing_files(root: Path, paths: Iterable[str]) -> list[str]:
    """Those of `paths` that are no files under `root`; each folder is listed once, no file is touched."""
    present: dict[PurePosixPath, set[str]] = {}
    missing = []
    for path in map(PurePosixPath, paths):
        if path.parent not in present:
            present[path.parent] = {entry.name for entry in _entries(root / path.parent) if entry.is_file()}
        if path.name not in present[path.parent]:
            missing.append(str(path))
    return missing


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        if folder.is_dir():
            with os.scandir(folder) as entries:
                yield from entries
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}") from error


def read_identities(root: Path, name: str, faults: Faults) -> set[int]:
    """Identities separated by commas (or white space)."""
    fields = re.findall(r"[^,\s]+", read_text(root, name, faults))
    faults.add(
        "entries that are not an identity's number", [f"{name}: '{field}'" for field in fields if not is_number(field)]
    )
    return {int(field) for field in fields if is_number(field)}


def read_labelled_paths(root: Path, name: str, faults: Faults) -> dict[str, int]:
    """Lines of a path and a label; the path may hold spaces. Only what lies under `root` comes back."""
    labels: dict[str, int] = {}
    for number, line in enumerate(read_text(root, name, faults).splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{name}:{number} '{line.strip()}'"
        *given, label = line.replace("\\", "/").rsplit(maxsplit=1)
        path = PurePosixPath(given[0].strip()) if given else PurePosixPath()
        if not (given and is_number(label)):
            faults.add("lines that are not a path and a label", [place])
        elif leads_out(str(path)):
            faults.add("paths that lead out of the dataset", [place])
        elif labels.setdefault(str(path), int(label)) != int(label):
            faults.add("images with two labels", [place])
    missing = set(missing_files(root, labels))
    faults.add("paths of a split file that do not exist", [f"{path} ({name})" for path in labels if path in missing])
    return {path: label for path, label in labels.items() if path not in missing}


def read_table(root: Path, name: str, columns: int | None, faults: Faults) -> Iterator[list[int] | None]:
    """Each line's whole numbers, of a text or of the one table in a MATLAB file; None for a line that has not so many.

    Without `columns` each number is a line.
    """
    lines = _matlab_lines(root, name, faults) if name.endswith(".mat") else read_text(root, name, faults).splitlines()
    if columns is None:
        lines = [field for line in lines for field in line.split()]
    for number, line in enumerate(lines, start=1):
        found = [whole_number(field) for field in line.split()]
        if found and len(found) == (columns or 1) and None not in found:
            yield [value for value in found if value is not None]
        elif found:
            place = f"{name}: '{line}'" if columns is None else f"{name}:{number} '{line.strip()}'"
            faults.add(f"lines that are not {columns or 1} whole numbers", [place])
            yield None


def _matlab_lines(root: Path, name: str, faults: Faults) -> list[str]:
    try:
        refuse_irregular(root / name)
        found = [value for key, value in loadmat(root / name, appendmat=False).items() if not key.startswith("__")]
        (table,) = found
        table = np.atleast_2d(np.asarray(table, dtype=np.int64))
    except Exception as error:  # a damaged file fails in the parser in a dozen ways
        faults.add("split files that cannot be read", [f"{name} ({error})"])
        return []
    return [" ".join(map(str, row)) for row in table.tolist()]


def whole_number(text: str) -> int | None:
    """A whole number, however numpy or MATLAB wrote it; None for anything else.

    >>> [whole_number(text) for text in ("0012", "-1", "3.000e+00", "3.5", "nan", "x")]
    [12, -1, 3, None, None, None]
    """
    if is_number(text.removeprefix("-")):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else None


def read_json(root: Path, name: str, kind: type, faults: Faults) -> Any:
    """A split file's list or dict; an empty one, with a fault, where it cannot be had."""
    text = read_text(root, name, faults)
    try:
        found = json.loads(text) if text.strip() else kind()
    except (ValueError, RecursionError) as error:
        faults.add("split files that cannot be read", [f"{name} ({error})"])
        return kind()
    faults.add("split files of another edition", [] if isinstance(found, kind) else [f"{name} (no {kind.__name__})"])
    return found if isinstance(found, kind) else kind()


def read_text(root: Path, name: str, faults: Faults) -> str:
    """A split file's text; empty, with a fault, where it cannot be had."""
    try:
        refuse_irregular(root / name)
        text = (root / name).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        faults.add("missing split files", [name])
        return ""
    except (OSError, UnicodeDecodeError) as error:
        faults.add("split files that cannot be read", [f"{name} ({error})"])
        return ""
    faults.add("empty split files", [] if text.strip() else [name])
    return text
