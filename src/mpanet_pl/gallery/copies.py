"""Where else a gallery's rows were put, who has to leave there yet, and which files showed its people."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.shards import COMPARABLE, TEXT
from mpanet_pl.gallery.store import RECORD, Gallery
from mpanet_pl.system.files import written_aside
from mpanet_pl.system.trust import is_signed, signature

COPIES = "copies.json"
SHOWN = "shown.json"  # folders that search wrote answers into


class Copy(NamedTuple):
    """A Milvus that holds a gallery's rows, under these names."""

    uri: str  # of a file the absolute path
    collection: str
    kind: str  # of index
    owed: Sequence[Mapping[str, Any]] = ()  # whom it has to forget yet, request by request
    name: str = ""  # of the collection in Milvus; 0.2 did not keep it
    folder: str = ""  # of the gallery that put its rows there
    signed: str | None = None  # by the user who did, on his machine

    @property
    def where(self) -> tuple[str, str, str]:
        return self[:3]

    @property
    def gone(self) -> bool:
        return "://" not in self.uri and not Path(self.uri).exists()

    @property
    def own(self) -> bool:
        """Whether this user put the rows there: nobody else's file decides whom this machine connects to."""
        return is_signed([*self.where, self.name], self.signed)

    def is_of(self, folder: Path) -> bool:
        """Whether this gallery's rows are meant, not those of the gallery that its folder was copied from."""
        return self.folder in ("", str(folder.absolute())) or not Path(self.folder, RECORD).exists()


def copy_for(gallery: Gallery, wanted: Copy) -> Copy:
    """This gallery's entry for a place, which is written down where it is new."""
    known = copies_of(gallery.folder)
    for copy in known:
        if copy.where == wanted.where and copy.name and copy.is_of(gallery.folder):
            return copy
    made_by = {key: gallery.record[key] for key in (*COMPARABLE, "root")} | {"folder": str(gallery.folder.absolute())}
    digest = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:16]
    name = f"{wanted.collection}_{wanted.kind}_{digest}"
    signed = signature([*wanted.where, name])
    new = wanted._replace(name=name, folder=str(gallery.folder.absolute()), signed=signed, owed=())
    write_copies(gallery.folder, [*(copy for copy in known if copy.where != wanted.where or copy.name), new])
    return new


def copies_of(folder: Path) -> list[Copy]:
    """Of a gallery's rows: who is forgotten has to leave these, too."""
    try:
        copies = [Copy(**entry) for entry in json.loads((folder / COPIES).read_text())]
        if any(not isinstance(part, str) for copy in copies for part in (*copy.where, copy.name, copy.folder)):
            raise ValueError("a name is no text")
        if any("\0" in copy.uri or "\0" in copy.folder for copy in copies):
            raise ValueError("a name is no name")
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{folder / COPIES} has to say where copies are, and is damaged: {error}.") from error
    return copies


def write_copies(folder: Path, copies: Sequence[Copy]) -> None:
    try:
        with written_aside(folder / COPIES) as aside:
            aside.write_text(json.dumps([copy._asdict() for copy in copies], indent=1) + "\n")
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise UserError(f"{folder / COPIES} has to say where copies are, and {reason}.") from error


def replace_copy(folder: Path, copy: Copy, now: Copy | None) -> None:
    """Write down what became of a copy; None where it is no more."""
    others = [other for other in copies_of(folder) if (other.where, other.name) != (copy.where, copy.name)]
    write_copies(folder, [*others, *([now] if now else [])])


def note_answers(folder: Path, out: Path) -> None:
    """Remember that search wrote answers into `out`, where the gallery can be written to."""
    try:
        with written_aside(folder / SHOWN) as aside:
            aside.write_text(json.dumps(sorted({*_shown(folder), str(out.absolute())}), indent=1) + "\n")
    except OSError:
        return


def answers_naming(folder: Path, paths: Sequence[str]) -> list[Path]:
    """The folders of answers in which one of these rows stands."""
    found = []
    for out in map(Path, _shown(folder)):
        try:
            shown = pq.read_table(out / "results.parquet", columns=["path"])["path"].cast(TEXT)
        except Exception:  # it was moved, or is no table any more
            continue
        if pc.any(pc.is_in(shown, pa.array(list(paths), TEXT))).as_py():
            found.append(out)
    return found


def _shown(folder: Path) -> list[str]:
    try:
        return [str(out) for out in json.loads((folder / SHOWN).read_text())]
    except (OSError, ValueError, TypeError, RecursionError):
        return []
