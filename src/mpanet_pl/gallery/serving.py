"""A gallery behind HTTP: an image or a row in, who answers out, and one plain page to do it by hand.

Requests that come together are embedded together. An upload is the request's body, so it never touches a disk; what
leaves the machine are scores, columns, and thumbnails of the gallery's own images.
"""

from __future__ import annotations

import asyncio
import base64
import io
import queue
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image
from starlette.middleware.trustedhost import TrustedHostMiddleware
from torch import Tensor

from mpanet_pl.data.decode import Unreadable
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.answers import thumbnail
from mpanet_pl.gallery.embedder import Embedder, stacked
from mpanet_pl.gallery.reading import pixels
from mpanet_pl.gallery.searching import NOBODY, Filter, Queries, search
from mpanet_pl.gallery.store import COLUMNS, Block, Gallery

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 20_000_000
MOST_ANSWERS = 100
POLICY = (
    "default-src 'none'; img-src data: blob:; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class HeldGallery(Gallery):
    """A gallery in memory: its vectors on the device that searches them."""

    def __init__(self, folder: str | Path, device: torch.device | str) -> None:
        super().__init__(folder)
        names = ("path", "camera", "time", "modality")
        self._blocks = [
            block._replace(vectors=torch.tensor(block.vectors).to(device).float()) for block in super().blocks(names)
        ]
        self._table = super().columns(*COLUMNS)

    def blocks(self, columns: Sequence[str] = ()) -> Iterator[Block]:
        return (block._replace(columns=block.columns.select(list(columns))) for block in self._blocks)

    def rows(self, numbers: np.ndarray) -> pa.Table:
        return self._table.take(pa.array(numbers))


class Asked(NamedTuple):
    pixels: np.ndarray | None  # of an upload, (H, W, 3)
    row: int | None  # of the gallery
    k: int
    only: Filter
    answer: Future[list[dict[str, Any]]]


class Answerer:
    """One thread that owns the network: it takes all requests that wait, embeds them at once, and searches."""

    def __init__(self, gallery: Gallery, embedder: Embedder, batch_size: int = 32) -> None:
        self.gallery, self.embedder, self.batch_size = gallery, embedder, batch_size
        self._waiting: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def ask(self, pixels: np.ndarray | None, row: int | None, k: int, only: Filter) -> Future[list[dict[str, Any]]]:
        asked = Asked(pixels, row, k, only, Future())
        self._waiting.put(asked)
        return asked.answer

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < self.batch_size and not self._waiting.empty():
                if (another := self._waiting.get()) is None:
                    self._waiting.put(None)
                    break
                batch.append(another)
            try:
                for asked, answer in zip(batch, self._answer(batch), strict=True):
                    asked.answer.set_result(answer)
            except Exception as error:  # whoever waits has to hear of it, whatever it is
                for asked in batch:
                    if not asked.answer.done():
                        asked.answer.set_exception(error)

    def _answer(self, batch: list[Asked]) -> list[list[dict[str, Any]]]:
        uploads = [asked.pixels for asked in batch if asked.pixels is not None]
        embedded = iter(self.embedder(stacked(uploads)) if uploads else ())
        vectors = [self._row(asked.row) if asked.row is not None else next(embedded).cpu() for asked in batch]
        answers: list[list[dict[str, Any]]] = [[] for _ in batch]
        alike: dict[Any, list[int]] = {}
        for number, asked in enumerate(batch):
            alike.setdefault((asked.k, str(asked.only)), []).append(number)
        for numbers in alike.values():
            asked = batch[numbers[0]]
            columns = pa.concat_tables([self._columns(batch[number].row) for number in numbers])
            queries = Queries(columns, torch.stack([vectors[number] for number in numbers]))
            device = self.embedder.device
            hits = search(self.gallery, queries, k=min(asked.k, len(self.gallery)), only=asked.only, device=device)
            for number, rows, scores in zip(numbers, hits.rows, hits.scores, strict=True):
                answers[number] = self._told(rows[rows != NOBODY], scores)
        return answers

    def _row(self, row: int) -> Tensor:
        return torch.from_numpy(self.gallery.vector(row))

    def _columns(self, row: int | None) -> pa.Table:
        """What is known of a query; of an upload nothing."""
        if row is None:
            return pa.table({name: pa.nulls(1, kind) for name, kind in COLUMNS.items()})
        known = self.gallery.rows(np.array([row]))
        path = self.gallery.root / known["path"][0].as_py()
        return known.set_column(0, "path", pa.array([str(path)], pa.string()))

    def _told(self, rows: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
        known = self.gallery.rows(rows).to_pylist()
        return [
            {"id": int(row), "place": place, "score": round(float(score), 6), **columns}
            for place, (row, score, columns) in enumerate(zip(rows, scores, known, strict=False), start=1)
        ]


def create_app(gallery: Gallery, embedder: Embedder, *, token: str | None = None, host: str = "127.0.0.1") -> FastAPI:
    """The application; `token` has to come with each request, as `Authorization: Bearer TOKEN`."""
    answerer = Answerer(gallery, embedder)

    @asynccontextmanager
    async def living(app: FastAPI) -> Any:
        answerer.start()
        yield
        answerer.stop()

    app = FastAPI(
        title="mpanet_pl gallery", lifespan=living, docs_url=None, redoc_url=None
    )  # those fetch from elsewhere
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    cameras = sorted(set(gallery.columns("camera")["camera"].to_pylist()) - {None})

    @app.middleware("http")
    async def guard(request: Request, follow: Callable[[Request], Awaitable[Response]]) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        open_to_all = request.url.path in ("/", "/healthz")
        if token is not None and not open_to_all and not secrets.compare_digest(given.encode(), token.encode()):
            return _refused(401, "This gallery wants its token, as Authorization: Bearer TOKEN.")
        if request.method == "POST":
            length = request.headers.get("content-length", "")
            if not length.isdecimal():
                return _refused(411, "An upload has to say its Content-Length.")
            if int(length) > MOST_BYTES:
                return _refused(413, f"An upload has at most {MOST_BYTES // 10**6} MB.")
        response = await follow(request)
        response.headers.update({"content-security-policy": POLICY, "x-content-type-options": "nosniff"})
        response.headers.setdefault("cache-control", "no-store")
        return response

    if host in LOOPBACK:  # a stranger's page may point a name of its own at this machine
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "testserver"])

    @app.exception_handler(UserError)
    async def mistake(request: Request, error: UserError) -> Response:
        return _refused(400, str(error))

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show() -> str:
        return page

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "rows": len(gallery)}

    @app.get("/about")
    async def about() -> dict[str, Any]:
        record = gallery.record
        return {"rows": len(gallery), "cameras": cameras, **{key: record[key] for key in ("trained_on", "dimension")}}

    upload = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}

    @app.post("/search", openapi_extra={"requestBody": upload})
    async def find(
        request: Request,
        id: int | None = None,
        k: Annotated[int, Query(ge=1, le=MOST_ANSWERS)] = 12,
        camera: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
        not_camera: Annotated[list[str], Query()] = [],  # noqa: B006
        modality: str | None = None,
        after: float | None = None,
        before: float | None = None,
        thumbnails: bool = True,
    ) -> dict[str, Any]:
        """Who answers the image in the body, or the gallery's row `id`."""
        only = Filter(cameras=camera, not_cameras=not_camera, modality=modality, after=after, before=before)
        body = await request.body()
        if (id is None) == (not body):
            raise UserError("Give an image as the request's body, or the id of a row, and not both.")
        if id is not None and not 0 <= id < len(gallery):
            raise UserError(f"The gallery's rows are 0 to {len(gallery) - 1}, got {id}.")
        image = await asyncio.to_thread(_decoded, body, embedder) if body else None
        answers = await asyncio.wrap_future(answerer.ask(image, id, k, only))
        if thumbnails:
            await asyncio.to_thread(_add_thumbnails, answers, gallery.root)
        return {"answers": answers}

    return app


def _refused(status: int, sentence: str) -> Response:
    return JSONResponse({"detail": sentence}, status_code=status)


def _decoded(body: bytes, embedder: Embedder) -> np.ndarray:
    try:
        image = Image.open(io.BytesIO(body))
    except Exception as error:  # whatever a parser of garbage stumbles over: there is no end to the kinds
        raise UserError("The upload is no image that can be read.") from error
    with image:
        return pixels(image, embedder.height, embedder.width)


def _add_thumbnails(answers: list[dict[str, Any]], root: Path) -> None:
    for answer in answers:
        try:
            data = base64.b64encode(thumbnail(root / answer["path"])).decode()
            answer["thumbnail"] = f"data:image/jpeg;base64,{data}"
        except Unreadable:
            answer["thumbnail"] = None
