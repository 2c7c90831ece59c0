"""Files that are whole or absent: written aside, then renamed. Folders that one process works in at a time."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mpanet_pl.errors import UserError

ASIDE = ".part"

logger = logging.getLogger(__name__)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def cache_home() -> Path:
    """Where this user's caches lie whatever the working folder: MPANET_CACHE, else a folder of XDG_CACHE_HOME's."""
    if named := os.environ.get("MPANET_CACHE"):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "mpanet_pl").absolute()


def sha256(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written_aside(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it takes `path`'s place, on failure it is gone.

    A `durable` file is on the disk by then, which takes its time.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}{ASIDE}")
    try:
        yield aside
        if durable:
            with aside.open("r+b") as file:  # to be synced on Windows, too
                os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write the text, its last line ended, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text.rstrip("\n") + "\n", encoding="utf-8")


def write_json(path: str | Path, plain: object) -> None:
    write_text(path, json.dumps(plain, indent=1, ensure_ascii=False))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else holds the folder meanwhile; the system lets go of it where a process dies.

    The folder itself is held, so that nothing is left in it. Windows and some file systems cannot: nobody is kept out.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(f"Another process is at work in {folder}.") from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def in_turn(lock: Path, waiting: str) -> Iterator[None]:
    """One process at a time holds the file `lock`; whoever has to wait says `waiting`. It stays, for the next."""
    turn = FileLock(lock)
    try:
        turn.acquire(blocking=False)
    except Timeout:
        logger.warning(waiting)
        turn.acquire()
    except (OSError, NotImplementedError):  # the latter is filelock 3's word for a file system without locks
        pass  # nor can one wait in a folder that nobody can write to
    try:
        yield
    finally:
        turn.release()


def sweep_up(folder: Path) -> None:
    """Remove what killed processes had not finished writing in a folder that nobody else writes to now."""
    for leftover in folder.glob(f".*{ASIDE}"):
        leftover.unlink(missing_ok=True)
