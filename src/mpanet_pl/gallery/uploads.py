"""Pictures of strangers, decoded in processes that a time limit ends, that write no file and whose memory is bounded.

Such a process imports Pillow and numpy alone. What comes back is an array, or a small JPEG.
"""

import asyncio
import io
import signal
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
from pebble import ProcessExpired, ProcessPool

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.gallery.bounded_images import opened, thumbnail_below
from mpanet_pl.system.cores import usable_cores
from mpanet_pl.system.pictures import Unreadable, resized

R = TypeVar("R")
TAKEN = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # of uploads
SECONDS = 10.0  # a picture of the most pixels takes two
MEMORY = 2**31  # bytes of addresses beyond those of the start; a picture of the most pixels takes a third
TASKS = 2000  # of a process, which then gives its memory back


def pixels_of(body: bytes, height: int, width: int) -> np.ndarray:
    """RGB (height, width, 3) uint8 of an upright first frame, as training reads images; raises `Unreadable`."""
    with opened(io.BytesIO(body), TAKEN) as image:
        return resized(image, height, width)


def thumbnails_of(root: str, paths: Sequence[str], box: tuple[int, int]) -> list[bytes | None]:
    return [thumbnail_below(root, path, box) for path in paths]


def confine() -> None:
    """What a decoding process may not: write a file, take all memory, hear Ctrl-C before its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    try:
        import resource

        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        for kind, most in ((resource.RLIMIT_AS, taken + MEMORY), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
            resource.setrlimit(kind, (most, most))
    except (ImportError, OSError, ValueError):
        pass  # not Linux: the time limit alone


class Decoder:
    """Some processes that decode. One client has all but one of them at a time, so that the next is served, too."""

    def __init__(self, processes: int | None = None, seconds: float = SECONDS) -> None:
        self.processes, self.seconds = processes or max(2, min(8, usable_cores())), seconds
        self._pool: ProcessPool | None = None
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def pixels(self, client: str, body: bytes, height: int, width: int) -> np.ndarray:
        try:
            return await self.run(client, pixels_of, body, height, width)
        except Unreadable as error:
            raise UserError(f"The image cannot be read: {error}.") from error

    async def thumbnails(
        self, client: str, root: Path, paths: Sequence[str], box: tuple[int, int]
    ) -> list[bytes | None]:
        """None where there is no picture, and for all where they take too long."""
        if not paths:
            return []
        try:
            return await self.run(client, thumbnails_of, str(root), paths, box)
        except UserError:
            return [None] * len(paths)

    async def run(self, client: str, work: Callable[..., R], *arguments: Any) -> R:
        turn = self._turns.setdefault(client, asyncio.Semaphore(max(1, self.processes - 1)))
        async with turn:
            try:
                return await asyncio.wrap_future(self._schedule(work, arguments))
            except TimeoutError as error:
                raise UserError(f"The image takes longer than {self.seconds:.0f} s to decode.") from error
            except (ProcessExpired, MemoryError) as error:
                raise UserError("The image cannot be read: decoding it takes too much memory.") from error

    def start(self) -> None:
        """The processes start with the first picture."""
        self._pool = ProcessPool(self.processes, TASKS, initializer=confine, context=get_context("spawn"))

    def stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join(1)

    def _schedule(self, work: Callable[..., R], arguments: Sequence[Any]) -> Any:
        if self._pool is None:
            raise RunStopped("The server is ending.")
        if not self._pool.active:  # its idle processes were killed from outside
            self.stop()
            self.start()
        return self._pool.schedule(work, args=arguments, timeout=self.seconds)
