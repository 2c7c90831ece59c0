"""What lies in a dataset's folders and stands in its split files; no image is opened."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

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
        elif path.is_absolute() or ".." in path.parts:
            faults.add("paths that lead out of the dataset", [place])
        elif labels.setdefault(str(path), int(label)) != int(label):
            faults.add("images with two labels", [place])
    missing = set(missing_files(root, labels))
    faults.add("paths of a split file that do not exist", [f"{path} ({name})" for path in labels if path in missing])
    return {path: label for path, label in labels.items() if path not in missing}


def read_numbers(root: Path, name: str, columns: int, faults: Faults) -> Iterator[list[int] | None]:
    """Each line's whole numbers; None for a line that has not so many."""
    for number, line in enumerate(read_text(root, name, faults).splitlines(), start=1):
        fields = line.split()
        if len(fields) == columns and all(is_number(field.removeprefix("-")) for field in fields):
            yield [int(field) for field in fields]
        elif fields:
            faults.add(f"lines that are not {columns} whole numbers", [f"{name}:{number} '{line.strip()}'"])
            yield None


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
