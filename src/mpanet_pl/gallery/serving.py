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
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mpanet_pl.data.decode import Unreadable
from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.gallery.answers import thumbnail
from mpanet_pl.gallery.embedder import Embedder, stacked
from mpanet_pl.gallery.known import said
from mpanet_pl.gallery.reading import pixels
from mpanet_pl.gallery.searching import Filter, Queries, search, table_of
from mpanet_pl.gallery.store import COLUMNS, Block, Gallery

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_BYTES = 20_000_000
MOST_ANSWERS = 100
POLICY = (
    "default-src 'none'; img-src data: blob:; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Engine(Protocol):
    """Who searches a gallery; asked from several threads."""

    @property
    def gallery(self) -> Gallery: ...

    def query(self, path: str) -> Queries:
        """Of the row of this path; a `UserError` where there is none."""

    def search(self, queries: Queries, *, k: int, only: Filter) -> pa.Table:
        """As `table_of` has it."""


class HeldGallery(Gallery):
    """A gallery in memory: its vectors on the device that searches them, exactly."""

    def __init__(self, folder: str | Path, device: torch.device | str) -> None:
        super().__init__(folder)
        self.device = device
        names = ("path", "camera", "time", "modality")
        self._blocks = [
            block._replace(vectors=torch.tensor(block.vectors).to(device).float()) for block in super().blocks(names)
        ]
        self._table = super().columns(*COLUMNS)

    def blocks(self, columns: Sequence[str] = ()) -> Iterator[Block]:
        return (block._replace(columns=block.columns.select(list(columns))) for block in self._blocks)

    def rows(self, numbers: np.ndarray) -> pa.Table:
        return self._table.take(pa.array(numbers))

    @property
    def gallery(self) -> Gallery:
        return self

    def query(self, path: str) -> Queries:
        row = pc.index(self._table["path"], path).as_py()
        if row < 0:
            raise UserError(f"The gallery has no row {path}.")
        known = self.rows(np.array([row]))
        columns = known.set_column(0, "path", pa.array([str(self.root / path)], COLUMNS["path"]))
        return Queries(columns, torch.from_numpy(self.vector(row))[None])

    def search(self, queries: Queries, *, k: int, only: Filter) -> pa.Table:
        hits = search(self, queries, k=min(k, max(1, len(self))), only=only, device=self.device)
        return table_of(self, queries, hits)


class Asked(NamedTuple):
    what: np.ndarray | Queries  # an upload's pixels, (H, W, 3), or one row of the gallery
    k: int
    only: Filter
    answer: Future[list[dict[str, Any]]]


class Answerer:
    """One thread that owns the network: it takes all requests that wait, embeds them at once, and searches."""

    def __init__(self, engine: Engine, embedder: Embedder, batch_size: int = 32) -> None:
        self.engine, self.embedder, self.batch_size = engine, embedder, batch_size
        self._waiting: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def ask(self, what: np.ndarray | Queries, k: int, only: Filter) -> Future[list[dict[str, Any]]]:
        asked = Asked(what, k, only, Future())
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
        queries = self._queries([asked.what for asked in batch])
        alike: dict[Any, list[int]] = {}
        for number, asked in enumerate(batch):
            alike.setdefault((asked.k, str(asked.only)), []).append(number)
        answers: list[list[dict[str, Any]]] = [[] for _ in batch]
        for numbers in alike.values():
            asked = batch[numbers[0]]
            of = {
                queries[number].columns["path"][0].as_py(): number for number in numbers
            }  # equal rows need one answer
            some = [queries[number] for number in of.values()]
            together = Queries(
                pa.concat_tables([one.columns for one in some]), torch.cat([one.vectors for one in some])
            )
            found: dict[str, list[dict[str, Any]]] = {path: [] for path in of}
            for row in self.engine.search(together, k=asked.k, only=asked.only).to_pylist():
                found[row.pop("query")].append(row | {"score": round(row["score"], 6)})
            for number in numbers:
                answers[number] = [dict(row) for row in found[queries[number].columns["path"][0].as_py()]]
        return answers

    def _queries(self, asked: list[np.ndarray | Queries]) -> list[Queries]:
        """Of uploads nothing is known; their paths are such as no file has."""
        uploads = [what for what in asked if not isinstance(what, Queries)]
        vectors = iter(self.embedder(stacked(uploads)).cpu() if uploads else ())
        return [
            what if isinstance(what, Queries) else Queries(_unknown(f"\0{number}"), next(vectors)[None])
            for number, what in enumerate(asked)
        ]


def _unknown(path: str) -> pa.Table:
    nothing: dict[str, Any] = {name: pa.nulls(1, kind) for name, kind in COLUMNS.items()}
    return pa.table(nothing | {"path": pa.array([path], COLUMNS["path"])})


def create_app(
    engine: Engine, embedder: Embedder, *, token: str | None = None, host: str = "127.0.0.1", limit: float | None = None
) -> FastAPI:
    """The application; `token` has to come with each request, as `Authorization: Bearer TOKEN`.

    limit: the cosine from which on an answer is `known`.
    """
    gallery, answerer = engine.gallery, Answerer(engine, embedder)
    if embedder.two_stream:
        raise UserError(f"{gallery.folder} is of a network of two streams, and an upload does not say its modality.")

    @asynccontextmanager
    async def living(app: FastAPI) -> Any:
        answerer.start()
        yield
        answerer.stop()

    app = FastAPI(
        title="mpanet_pl gallery", lifespan=living, docs_url=None, redoc_url=None
    )  # those fetch from elsewhere
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    cameras = sorted(pc.unique(gallery.columns("camera")["camera"]).drop_null().to_pylist())

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

    @app.exception_handler(RunStopped)
    async def fault(request: Request, error: RunStopped) -> Response:
        return _refused(503, str(error))

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show() -> str:
        return page

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "rows": len(gallery)}

    @app.get("/about")
    async def about() -> dict[str, Any]:
        record = gallery.record
        return {
            "rows": len(gallery),
            "cameras": cameras,
            "known": said(gallery, limit),
            **{key: record[key] for key in ("trained_on", "dimension")},
        }

    upload = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}

    @app.post("/search", openapi_extra={"requestBody": upload})
    async def find(
        request: Request,
        id: str | None = None,
        k: Annotated[int, Query(ge=1, le=MOST_ANSWERS)] = 12,
        camera: Annotated[list[str], Query()] = [],  # noqa: B006 - FastAPI copies it
        not_camera: Annotated[list[str], Query()] = [],  # noqa: B006
        modality: str | None = None,
        after: float | None = None,
        before: float | None = None,
        thumbnails: bool = True,
    ) -> dict[str, Any]:
        """Who answers the image in the body, or the gallery's row whose path is `id`."""
        only = Filter(cameras=camera, not_cameras=not_camera, modality=modality, after=after, before=before)
        body = await request.body()
        if (id is None) == (not body):
            raise UserError("Give an image as the request's body, or the id of a row, and not both.")
        what = await (
            asyncio.to_thread(engine.query, id) if id is not None else asyncio.to_thread(_decoded, body, embedder)
        )
        answers = await asyncio.wrap_future(answerer.ask(what, k, only))
        for answer in answers:
            answer["known"] = None if limit is None else answer["score"] >= limit
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
