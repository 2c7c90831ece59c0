"""Progress of a long loop: a live bar on a terminal, sparse plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 15


def track(items: Iterable[T], what: str, total: int, unit: str | None = None) -> Iterator[T]:
    """Yield `items` while showing how many of `total` are done, on standard error; with a `unit`, how fast, too."""
    if sys.stderr.isatty():
        yield from _bar(items, what, total, unit)
    else:
        yield from _lines(items, what, total, unit)


class _Speed(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.0f} {self.unit}/s")


def _bar(items: Iterable[T], what: str, total: int, unit: str | None) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        *([_Speed(unit)] if unit else []),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=what)


def _lines(items: Iterable[T], what: str, total: int, unit: str | None) -> Iterator[T]:
    began = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and done < total:
            speed = done / (now - began)
            left = f", {speed:.0f} {unit}/s, {(total - done) / speed:.0f} s left" if unit else ""
            print(f"{what}: {done} of {total}{left}", file=sys.stderr, flush=True)
            last = now
    seconds = time.monotonic() - began
    rate = f", {total / seconds:.0f} {unit}/s" if unit and seconds else ""
    print(f"{what}: {total} of {total} in {seconds:.0f} s{rate}", file=sys.stderr, flush=True)
