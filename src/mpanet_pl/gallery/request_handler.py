"""One request from its body to its answer: decoded, searched, pictured, logged, and of one generation throughout."""

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import HTTPException, Request

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.gallery.access_log import AccessLog
from mpanet_pl.gallery.bounded_images import thumbnail_below
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.engines import Live
from mpanet_pl.gallery.guard import Uploads, client_of
from mpanet_pl.gallery.known import limit_of
from mpanet_pl.gallery.schemas import Answer, Browsed, Found, Result, Results, Row
from mpanet_pl.gallery.search_thread import Answered, Answerer, Asked
from mpanet_pl.gallery.searching import Filter
from mpanet_pl.gallery.shards import COLUMNS, GalleryChanged
from mpanet_pl.gallery.store import Gallery
from mpanet_pl.gallery.thumbnails import Thumbnails
from mpanet_pl.gallery.uploads import Decoder

PICTURE = (1024, 1024)
ATTEMPTS = 5
CHANGING = "The gallery is being changed: ask again."


class Question(NamedTuple):
    what: np.ndarray | str
    infrared: bool | None
    name: str  # in the log


class Handler:
    """threshold: the cosine from which on an answer is `known`; `auto` is the gallery's own, None is none."""

    def __init__(
        self,
        live: Live,
        embedder: Embedder,
        *,
        threshold: float | str | None,
        log: AccessLog,
        decoder: Decoder | None = None,
    ) -> None:
        self.live, self.embedder, self.threshold, self.log = live, embedder, threshold, log
        self._limits: dict[str, float | None] = {}
        self.answerer, self.decoder, self.uploads = Answerer(live, embedder), decoder or Decoder(), Uploads()
        self.thumbnails = Thumbnails(self.decoder)

    def start(self) -> None:
        self.decoder.start()
        self.answerer.start()

    def stop(self) -> None:
        self.decoder.stop()
        self.answerer.stop()

    async def limit(self, gallery: Gallery) -> float | None:
        """Of the people that this generation holds."""
        limits = self._limits
        if gallery.generation not in limits:
            limits = {gallery.generation: await asyncio.to_thread(limit_of, gallery, self.threshold)}
            self._limits = limits
        return limits[gallery.generation]

    async def query(self, request: Request, id: str | None, image: bytes | None, infrared: bool | None) -> Question:
        if (id is None) == (not image):
            raise UserError("Give an image as the request's body, or the id of a row, and not both.")
        if id is not None:
            return Question(id, None, id)
        assert image
        if self.embedder.two_stream and infrared is None:
            raise UserError("This network has a stream of each modality: say infrared=true or infrared=false.")
        height, width = self.embedder.height, self.embedder.width
        pixels = await self.decoder.pixels(client_of(request.scope), image, height, width)
        return Question(pixels, infrared, f"sha256:{hashlib.sha256(image).hexdigest()}")

    async def found(self, request: Request, query: Question, k: int, only: Filter, thumbnails: bool) -> Found:
        said, (result,) = await self._answered(request, [query], k, only, thumbnails)
        if result.error is not None:
            raise UserError(result.error)
        return Found(answers=result.answers, **said)

    async def results(
        self, request: Request, queries: Sequence[Question | UserError], k: int, only: Filter, thumbnails: bool
    ) -> Results:
        said, results = await self._answered(request, queries, k, only, thumbnails)
        return Results(results=results, **said)

    async def browsed(self, request: Request, only: Filter, offset: int, k: int, thumbnails: bool) -> Browsed:
        for _ in range(ATTEMPTS):
            try:
                gallery = await asyncio.to_thread(self.live.gallery)
                matching, rows = await asyncio.to_thread(_some, gallery, only, offset, k)
                if thumbnails:
                    await self._picture(request, gallery, rows)
                if said := await self._logged(request, "browse", gallery, [], only, rows):
                    return Browsed(matching=matching, answers=[Row(**row) for row in rows], **said)
            except GalleryChanged:
                continue
        raise RunStopped(CHANGING)

    async def picture(self, request: Request, id: str) -> bytes:
        """A JPEG of a row's image, larger than a thumbnail."""
        gallery = await asyncio.to_thread(self.live.gallery)
        rows = await asyncio.to_thread(lambda: pc.index(gallery.columns("path")["path"], id).as_py())
        made = None
        if rows >= 0:
            arguments = (str(gallery.root), id, PICTURE)
            made = await self.decoder.run(client_of(request.scope), thumbnail_below, *arguments)
        if made is None or not await self._logged(request, "picture", gallery, [], Filter(), [{"path": id}]):
            raise HTTPException(404, "The gallery has no picture of that name below its root.")
        return made

    async def _answered(
        self, request: Request, queries: Sequence[Question | UserError], k: int, only: Filter, thumbnails: bool
    ) -> tuple[dict[str, Any], list[Result]]:
        names = [query.name for query in queries if isinstance(query, Question)]
        for _ in range(ATTEMPTS):
            outcomes = await self._searched(queries, k, only)
            if any(isinstance(outcome, GalleryChanged) for outcome in outcomes):
                continue
            answered = [outcome for outcome in outcomes if isinstance(outcome, Answered)]
            gallery = answered[0].gallery if answered else await asyncio.to_thread(self.live.gallery)
            rows = [row for outcome in answered for row in outcome.rows]
            if thumbnails:
                await self._picture(request, gallery, rows)
            if any(outcome.gallery.generation != gallery.generation for outcome in answered):
                continue
            limit = await self.limit(gallery)
            if said := await self._logged(request, "search", gallery, names, only, rows):
                return said, [_result(outcome, limit) for outcome in outcomes]
        raise RunStopped(CHANGING)

    async def _searched(
        self, queries: Sequence[Question | UserError], k: int, only: Filter
    ) -> list[Answered | BaseException]:
        asked = [Asked(query.what, query.infrared, k, only) for query in queries if isinstance(query, Question)]
        waited = (asyncio.wrap_future(self.answerer.ask(one)) for one in asked)
        answers = iter(await asyncio.gather(*waited, return_exceptions=True))
        outcomes = [next(answers) if isinstance(query, Question) else query for query in queries]
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, UserError | GalleryChanged):
                raise outcome
        return outcomes

    async def _picture(self, request: Request, gallery: Gallery, rows: Sequence[dict[str, Any]]) -> None:
        made = await self.thumbnails.of(client_of(request.scope), gallery, [row["path"] for row in rows])
        for row, jpeg in zip(rows, made, strict=True):
            row["thumbnail"] = jpeg and f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"

    async def _logged(
        self,
        request: Request,
        asked: str,
        gallery: Gallery,
        query: Sequence[str],
        only: Filter,
        rows: Sequence[dict[str, Any]],
    ) -> dict[str, Any]:
        """What an answer says of its generation, once it is in the log; empty where the gallery has another one now."""
        client, user = client_of(request.scope), request.scope.get("state", {}).get("user", "")

        def checked() -> dict[str, Any]:
            if not gallery.current:
                return {}
            self.log.write(
                asked,
                client=client,
                user=user,
                query=query,
                only=asdict(only),
                generation=gallery.generation,
                shown=[row["path"] for row in rows],
            )
            return generation_of(gallery)

        return await asyncio.to_thread(checked)


def _result(outcome: Answered | BaseException, limit: float | None) -> Result:
    if not isinstance(outcome, Answered):
        return Result(error=str(outcome))
    return Result(
        answers=[Answer(**row, known=None if limit is None else row["score"] >= limit) for row in outcome.rows]
    )


def generation_of(gallery: Gallery) -> dict[str, Any]:
    return {"generation": gallery.generation, "rows": len(gallery), "unfinished": gallery.unfinished}


def _some(gallery: Gallery, only: Filter, offset: int, k: int) -> tuple[int, list[dict[str, Any]]]:
    """How many rows the filter lets through, and `k` of them from `offset` on, the newest first."""
    columns = gallery.columns(*COLUMNS)
    kept = only.rows(columns)
    if kept is not None:
        columns = columns.filter(pa.array(kept))
    keys = [("time", "descending"), ("path", "ascending")]
    order = pc.select_k_unstable(columns.select(["time", "path"]), min(len(columns), offset + k), keys)
    return len(columns), columns.take(order.slice(offset)).to_pylist()
