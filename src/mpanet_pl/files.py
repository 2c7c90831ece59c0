"""Files that are whole or absent: written aside, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    finally:
        aside.unlink(missing_ok=True)


def sweep_up(folder: Path) -> None:
    """Remove what killed processes had not finished writing in a folder that nobody else writes to now."""
    for leftover in folder.glob(f".*{ASIDE}"):
        leftover.unlink(missing_ok=True)
