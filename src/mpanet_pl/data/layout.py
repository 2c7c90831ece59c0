"""What the datasets on disk share: split files and folders in, a split's images and every fault out."""

from __future__ import annotations

import os
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar, NamedTuple

from mpanet_pl.data.catalogue import Catalogue, Splits
from mpanet_pl.errors import UserError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SHOWN = 20  # of each kind of fault

Row = tuple[str, int, int, bool]  # path, identity, camera, infrared


class Counts(NamedTuple):
    """How much a split holds, to compare with what was published."""

    identities: int
    visible: int
    infrared: int

    @classmethod
    def of(cls, catalogue: Catalogue) -> Counts:
        infrared = int(catalogue.infrared.sum())
        return cls(catalogue.num_identities, len(catalogue) - infrared, infrared)

    def __str__(self) -> str:
        return f"{self.identities} identities, {self.visible} visible and {self.infrared} infrared images"


class Faults:
    """Everything wrong with a dataset, gathered by kind so that it is told at once.

    >>> faults = Faults()
    >>> faults.add("missing folders", ["cam1", "cam3"])
    >>> print(faults)
    - missing folders (2): cam1, cam3
    """

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, what: Iterable[object]) -> None:
        if found := [str(one) for one in what]:
            self._found.setdefault(kind, []).extend(found)

    def __bool__(self) -> bool:
        return bool(self._found)

    def __str__(self) -> str:
        return "\n".join(f"- {kind} ({len(found)}): {listed(found)}" for kind, found in self._found.items())


class BrokenDataset(UserError):
    """A folder that cannot be used as it is: its faults, and the splits as far as they could be read."""

    def __init__(self, message: str, faults: Faults, splits: Splits) -> None:
        super().__init__(message)
        self.faults = faults
        self.splits = splits


class DatasetOnDisk(ABC):
    """A dataset in its released layout. `read` is cheap: it lists folders and reads split files, but opens no image."""

    name: ClassVar[str]
    config: ClassVar[str]  # what `dataset=` calls it
    published: ClassVar[Mapping[str, Counts]] = {}  # by split

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).expanduser()

    def prepare(self) -> None:  # noqa: B027 - most datasets have nothing to make
        """Nothing: whoever has the dataset put it there."""

    def read(self) -> Splits:
        """The splits, or one `BrokenDataset` with every structural fault."""
        faults = Faults()
        splits = Splits(Catalogue.from_rows([]), Catalogue.from_rows([]))
        if not self.root.is_dir():
            faults.add("missing folders", [self.root])
        else:
            splits = self._read(faults)
            if not faults:
                faults.add("splits without images of a modality", _missing_modalities(splits))
        if faults:
            message = f"{self.name} in {self.root} cannot be used:\n{faults}\nThe full check: {self.check_command}"
            raise BrokenDataset(message, faults, splits)
        return splits

    @property
    def check_command(self) -> str:
        return f"python -m mpanet_pl.prepare dataset={self.config} {shlex.quote(f'data_dir={self.root}')}"

    @abstractmethod
    def _read(self, faults: Faults) -> Splits:
        """The splits as far as they can be read; what is wrong goes into `faults`."""


def _missing_modalities(splits: Splits) -> Iterator[str]:
    for split, catalogue in (("training", splits.train), ("test", splits.test)):
        _, visible, infrared = Counts.of(catalogue)
        if not visible:
            yield f"no visible {split} image"
        if not infrared:
            yield f"no infrared {split} image"


def listed(items: Iterable[object]) -> str:
    """The first few, and how many more: enough to act on.

    >>> listed(range(22))
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 2 more'
    """
    every = [str(item) for item in items]
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


# --- folders


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted; hidden ones are nobody's."""
    return sorted(entry.name for entry in _entries(folder) if not entry.name.startswith(".") and entry.is_dir())


def images_in(folder: Path) -> list[str]:
    """The names of the images in a folder, sorted; hidden files and files of other kinds are left out."""
    return sorted(entry.name for entry in _entries(folder) if is_image(entry.name) and entry.is_file())


def is_image(name: str) -> bool:
    """
    >>> [is_image(name) for name in ("0001.JPG", "ein Bild.png", "._0001.jpg", "Thumbs.db")]
    [True, True, False, False]
    """
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


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


def person_folders(rows: Iterable[Row]) -> set[int]:
    """The people whose numbered folders the images lie in; folders that are not numbers say nothing.

    >>> person_folders([("Visible/0002/a.bmp", 0, 1, False), ("Thermal/a.bmp", 0, 2, True)])
    {2}
    """
    folders = {PurePosixPath(path).parent.name for path, *_ in rows}
    return {int(folder) for folder in folders if folder.isdecimal()}


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    if folder.is_dir():
        with os.scandir(folder) as entries:
            yield from entries


# --- split files


def read_identities(root: Path, name: str, faults: Faults) -> set[int]:
    """Identities separated by commas (or white space)."""
    fields = re.findall(r"[^,\s]+", _read_text(root, name, faults))
    faults.add(
        "entries that are not an identity's number", [f"{name}: '{field}'" for field in fields if not field.isdecimal()]
    )
    return {int(field) for field in fields if field.isdecimal()}


def read_labelled_paths(root: Path, name: str, faults: Faults) -> dict[str, int]:
    """Lines of a path and a label; the path may hold spaces. Only what lies under `root` comes back."""
    labels: dict[str, int] = {}
    for number, line in enumerate(_read_text(root, name, faults).splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{name}:{number} '{line.strip()}'"
        *given, label = line.replace("\\", "/").rsplit(maxsplit=1)
        path = PurePosixPath(given[0].strip()) if given else PurePosixPath()
        if not (given and label.isdecimal()):
            faults.add("lines that are not a path and a label", [place])
        elif path.is_absolute() or ".." in path.parts:
            faults.add("paths that lead out of the dataset", [place])
        elif labels.setdefault(str(path), int(label)) != int(label):
            faults.add("images with two labels", [place])
    missing = set(missing_files(root, labels))
    faults.add("paths of a split file that do not exist", [f"{path} ({name})" for path in labels if path in missing])
    return {path: label for path, label in labels.items() if path not in missing}


def _read_text(root: Path, name: str, faults: Faults) -> str:
    try:
        text = (root / name).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        faults.add("missing split files", [name])
        return ""
    except (OSError, UnicodeDecodeError) as error:
        faults.add("split files that cannot be read", [f"{name} ({error})"])
        return ""
    faults.add("empty split files", [] if text.strip() else [name])
    return text


# --- rows


def relabelled(rows: Iterable[Row]) -> Catalogue:
    """A training catalogue: the identities present become 0 … C−1, in their own order."""
    rows = list(rows)
    label = {identity: number for number, identity in enumerate(sorted({row[1] for row in rows}))}
    return Catalogue.from_rows([(path, label[identity], camera, infrared) for path, identity, camera, infrared in rows])
