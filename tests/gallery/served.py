"""A gallery's service for tests: its application, and a client that asks it under its own name."""

import asyncio
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from PIL import Image

from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.engines import HeldGallery, Live
from mpanet_pl.gallery.serving import create_app
from mpanet_pl.gallery.uploads import Decoder

NAME = r"(?P<camera>\d+)_(?P<time>\d+)"


class Here(Decoder):
    """Decodes in threads of this process, without a process's start."""

    async def run(self, client: str, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(work, *arguments)


def live(people: Path) -> Live:
    return Live(people, lambda folder: nullcontext(HeldGallery(folder, "cpu")))


@contextmanager
def client_of(people: Path, embedder: Embedder, **words: Any) -> Iterator[TestClient]:
    app = create_app(live(people), embedder, **{"decoder": Here()} | words)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def picture(width: int, height: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, kind)
    return file.getvalue()


def until(fits: Callable[[], bool], seconds: float = 30) -> None:
    import time

    end = time.monotonic() + seconds
    while not fits():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)
