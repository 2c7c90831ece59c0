"""A gallery behind HTTP: images or rows in, who answers out, and one plain page to do it by hand.

Requests that come together are embedded together. An upload is the request's body, so it never touches a disk; what
leaves the machine are scores, columns, and pictures of the gallery's own images.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow.compute as pc
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer
from limits import RateLimitItem
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from mpanet_pl import __version__
from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.gallery.access_log import AccessLog
from mpanet_pl.gallery.bounded_images import LONGEST
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.engines import Live
from mpanet_pl.gallery.guard import LOOPBACK, MOST_BYTES, guarded, refusal
from mpanet_pl.gallery.known import AUTO, promise_of
from mpanet_pl.gallery.request_handler import Handler, Question, generation_of
from mpanet_pl.gallery.schemas import (
    MOST_ANSWERS,
    About,
    Asks,
    Browsed,
    Found,
    Health,
    Promise,
    Refusal,
    Results,
)
from mpanet_pl.gallery.searching import Filter
from mpanet_pl.gallery.store import Gallery
from mpanet_pl.gallery.uploads import TAKEN, Decoder

REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "a mistake in the request, or a Host that is not served"},
    401: {"model": Refusal, "description": "no token, or a wrong one"},
    403: {"model": Refusal, "description": "another site's page asked"},
    422: {"model": Refusal, "description": "a parameter out of its range"},
    429: {"model": Refusal, "description": "too many requests; Retry-After says when"},
    503: {"model": Refusal, "description": "the gallery cannot be asked now"},
}
OF_UPLOADS: dict[int | str, dict[str, Any]] = {
    408: {"model": Refusal, "description": "the upload took too long"},
    413: {"model": Refusal, "description": f"the upload has more than {MOST_BYTES // 10**6} MB"},
}
NO_PICTURE: dict[int | str, dict[str, Any]] = {404: {"model": Refusal, "description": "no picture of that name"}}
IMAGE = {"content": {f"image/{kind.lower()}": {"schema": {"type": "string", "format": "binary"}} for kind in TAKEN}}
QUERIES = {"required": True, "content": {"application/json": {"schema": Asks.model_json_schema()}}}
Count = Annotated[int, Query(ge=1, le=MOST_ANSWERS, description="how many answers")]
Camera = Annotated[str, Query(max_length=200)]
Seconds = Annotated[float, Query(allow_inf_nan=False)]
Name = Annotated[str, Query(max_length=LONGEST, description="a row's path")]


def create_app(
    live: Live,
    embedder: Embedder,
    *,
    tokens: Mapping[str, str] = {},
    names: Sequence[str] = LOOPBACK,
    threshold: float | str | None = AUTO,
    rate: RateLimitItem | None = None,
    log: AccessLog | None = None,
    decoder: Decoder | None = None,
) -> FastAPI:
    """The application.

    tokens: names by token, one of which has to come with each request, as `Authorization: Bearer TOKEN`.
    names: under which it is asked, as the Host header says.
    threshold: the cosine from which on an answer is `known`; `auto` is the gallery's own, None is none.
    rate: how many requests of one client are answered.
    """
    handler = Handler(live, embedder, threshold=threshold, log=log or AccessLog(), decoder=decoder)

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        handler.start()
        yield
        handler.stop()

    app = FastAPI(
        title="mpanet_pl gallery",
        version=__version__,
        lifespan=living,
        docs_url=None,  # these two fetch from elsewhere
        redoc_url=None,
        dependencies=[Security(HTTPBearer(auto_error=False))] if tokens else [],  # said here, checked by the guard
    )
    guarded(app, tokens=tokens, names=names, rate=rate)
    _say_mistakes(app)
    _add_page(app, handler)
    _add_search(app, handler)
    _add_looking(app, handler)
    return app


def _say_mistakes(app: FastAPI) -> None:
    """Errors are sentences, under `detail`."""

    for kind, status in ((UserError, 400), (RunStopped, 503)):
        app.exception_handler(kind)(partial(_refused_for, status))

    @app.exception_handler(RequestValidationError)
    async def misfit(request: Request, error: RequestValidationError) -> Response:
        return refusal(422, _sentence(error.errors()))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # which nobody reads


def _add_page(app: FastAPI, handler: Handler) -> None:
    page = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show() -> str:
        return page

    @app.get("/healthz", responses={503: REFUSALS[503]})
    async def healthz() -> Health:
        """Whether it lives, and which rows it answers from now."""
        gallery = await asyncio.to_thread(handler.live.gallery)
        return Health(status="ok", rows=len(gallery), generation=gallery.generation)

    @app.get("/about", responses=REFUSALS)
    async def about() -> About:
        """What can be asked for."""
        gallery = await asyncio.to_thread(handler.live.gallery)
        return await asyncio.to_thread(_about, handler.embedder, gallery, await handler.limit(gallery))

    @app.get("/promise", responses=REFUSALS)
    async def promise(threshold: Annotated[float, Query(ge=-1, le=1, allow_inf_nan=False)]) -> Promise:
        """What a threshold promises among the people that the gallery holds."""
        gallery = await asyncio.to_thread(handler.live.gallery)
        words = await asyncio.to_thread(promise_of, gallery, threshold)
        return Promise(generation=gallery.generation, threshold=threshold, known=words)


async def _only(  # a plain function would be called in a thread
    camera: Annotated[list[Camera], Query(max_length=100)] = [],  # noqa: B006 - FastAPI copies it
    not_camera: Annotated[list[Camera], Query(max_length=100)] = [],  # noqa: B006
    modality: Annotated[str | None, Query(max_length=20)] = None,
    after: Seconds | None = None,
    before: Seconds | None = None,
    other_camera: Annotated[bool, Query(description="not the camera of the query, which has to be a row")] = False,
    within: Annotated[float | None, Query(ge=0, allow_inf_nan=False, description="seconds from the query")] = None,
) -> Filter:
    return Filter(
        cameras=camera,
        not_cameras=not_camera,
        modality=modality,
        after=after,
        before=before,
        other_camera=other_camera,
        within=within,
    )


Only = Annotated[Filter, Depends(_only)]


def _add_search(app: FastAPI, handler: Handler) -> None:
    @app.post("/search", responses=REFUSALS | OF_UPLOADS, openapi_extra={"requestBody": IMAGE})
    async def search(
        request: Request,
        only: Only,
        id: Name | None = None,
        infrared: Annotated[bool | None, Query(description="of the image, where `about` asks for it")] = None,
        k: Count = 12,
        thumbnails: bool = True,
    ) -> Found:
        """Who answers the image in the body, or the gallery's row whose path is `id`."""
        async with handler.uploads.body(request) as body:
            query = await handler.query(request, id, body, infrared)
        return await handler.found(request, query, k, only, thumbnails)

    @app.post("/search/many", responses=REFUSALS | OF_UPLOADS, openapi_extra={"requestBody": QUERIES})
    async def many(request: Request, only: Only, k: Count = 12, thumbnails: bool = False) -> Results:
        """Several queries at once; one that cannot be answered says so and does not stop the others."""
        queries: list[Question | UserError] = []
        async with handler.uploads.body(request) as body:
            try:
                asks = Asks.model_validate_json(body)
            except ValidationError as error:
                raise HTTPException(422, _sentence(error.errors())) from None
            for ask in asks.queries:
                try:
                    queries.append(await handler.query(request, ask.id, ask.image, ask.infrared))
                except UserError as error:
                    queries.append(error)
        return await handler.results(request, queries, k, only, thumbnails)


def _add_looking(app: FastAPI, handler: Handler) -> None:
    @app.get("/rows", responses=REFUSALS)
    async def rows(
        request: Request,
        only: Only,
        offset: Annotated[int, Query(ge=0, le=10_000)] = 0,
        k: Count = 24,
        thumbnails: bool = True,
    ) -> Browsed:
        """The gallery's rows, the newest first."""
        return await handler.browsed(request, only, offset, k, thumbnails)

    @app.get(
        "/picture", response_class=Response, responses=REFUSALS | NO_PICTURE | {200: {"content": {"image/jpeg": {}}}}
    )
    async def picture(request: Request, id: Annotated[str, Query(description="a row's path")]) -> Response:
        """A row's picture, up to 1024 pixels high and wide."""
        return Response(await handler.picture(request, id), media_type="image/jpeg")


def _about(embedder: Embedder, gallery: Gallery, limit: float | None) -> About:
    columns = gallery.columns("camera", "modality", "time")
    times = pc.min_max(columns["time"]).as_py()
    return About(
        **generation_of(gallery),
        cameras=_values(columns["camera"]),
        modalities=_values(columns["modality"]),
        first=times["min"],
        last=times["max"],
        dimension=gallery.dimension,
        trained_on=gallery.record["trained_on"],
        known=promise_of(gallery, limit),
        threshold=limit,
        asks=["infrared"] if embedder.two_stream else [],
    )


def _values(column: Any) -> list[str]:
    """Numbers as numbers are sorted, names behind them.

    >>> import pyarrow as pa
    >>> _values(pa.array(["lane", "10", "9", None, "entrance", "9"]))
    ['9', '10', 'entrance', 'lane']
    """
    return sorted(
        pc.unique(column).drop_null().to_pylist(),
        key=lambda text: (not text.isdecimal(), len(text) if text.isdecimal() else 0, text),
    )


async def _refused_for(status: int, request: Request, error: Exception) -> Response:
    return refusal(status, str(error))


def _sentence(errors: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors[:5])
