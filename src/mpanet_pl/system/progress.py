"""Progress of a long loop: a live bar on a terminal, sparse plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield `items` while showing how many of `total` are done, on standard error."""
    if sys.stderr.isatty():
        yield from _bar(items, what, total)
    else:
        yield from _lines(items, what, total)


def _bar(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    from rich.console import Console

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=what)


def _lines(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    began = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and done < total:
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)
            last = now
    print(f"{what}: {total} of {total} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
