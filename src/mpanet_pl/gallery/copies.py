"""Where else a gallery's rows were put, and who has to leave there yet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mpanet_pl.errors import UserError
from mpanet_pl.system.files import written_aside

COPIES = "copies.json"


class Copy(NamedTuple):
    """A Milvus that holds a gallery's rows, under these names."""

    uri: str  # of a file the absolute path
    collection: str
    kind: str  # of index
    owed: Sequence[Mapping[str, Any]] = ()  # whom it has to forget yet

    @property
    def where(self) -> tuple[str, str, str]:
        return self[:3]

    @property
    def gone(self) -> bool:
        return "://" not in self.uri and not Path(self.uri).exists()


def copies_of(folder: Path) -> list[Copy]:
    """Of a gallery's rows: who is forgotten has to leave these, too."""
    try:
        return [Copy(**entry) for entry in json.loads((folder / COPIES).read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder / COPIES} has to say where copies are, and is damaged: {error}.") from error


def write_copies(folder: Path, copies: Sequence[Copy]) -> None:
    try:
        with written_aside(folder / COPIES) as aside:
            aside.write_text(json.dumps([copy._asdict() for copy in copies], indent=1) + "\n")
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise UserError(f"{folder / COPIES} has to say where copies are, and {reason}.") from error
