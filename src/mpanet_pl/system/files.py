"""Files that are whole or absent: written aside, then renamed. Folders that one process works in at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpanet_pl.errors import UserError

ASIDE = ".part"


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
            with aside.open("rb") as file:
                os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Nobody else holds the folder meanwhile; the system lets go of it where a process dies."""
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


def sweep_up(folder: Path) -> None:
    """Remove what killed processes had not finished writing in a folder that nobody else writes to now."""
    for leftover in folder.glob(f".*{ASIDE}"):
        leftover.unlink(missing_ok=True)
