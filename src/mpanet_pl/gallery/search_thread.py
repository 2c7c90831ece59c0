"""One thread that owns the network and the engine: it takes all requests that wait, and answers them together."""

import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.embedder import Embedder, stacked
from mpanet_pl.gallery.engines import Engine, Live
from mpanet_pl.gallery.searching import Filter, Queries
from mpanet_pl.gallery.shards import COLUMNS
from mpanet_pl.gallery.store import Gallery


class Asked(NamedTuple):
    what: np.ndarray | str  # an upload's pixels, (H, W, 3), or the name of a row
    infrared: bool | None  # of an upload, where the network asks for it
    k: int
    only: Filter


class Answered(NamedTuple):
    gallery: Gallery  # the generation that was asked
    rows: list[dict[str, Any]]


class Waiting(NamedTuple):
    asked: Asked
    answer: Future[Answered]


class Answerer:
    def __init__(self, live: Live, embedder: Embedder, batch_size: int = 32) -> None:
        self.live, self.embedder, self.batch_size = live, embedder, batch_size
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Wait a second for what is under way; a thread that is a daemon goes with the process."""
        self._queue.put(None)
        self._thread.join(1)

    def ask(self, asked: Asked) -> Future[Answered]:
        waiting = Waiting(asked, Future())
        self._queue.put(waiting)
        return waiting.answer

    def _work(self) -> None:
        while batch := self._batch():
            try:
                self._answer(batch)
            except Exception as error:  # whoever waits has to hear of it, whatever it is
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
        self.live.close()

    def _batch(self) -> list[Waiting]:
        """Whoever waits, and did not leave meanwhile; empty when it is over."""
        batch: list[Waiting] = []
        while not batch or (len(batch) < self.batch_size and not self._queue.empty()):
            if (waiting := self._queue.get()) is None:
                self._queue.put(None)
                break
            if waiting.answer.set_running_or_notify_cancel():
                batch.append(waiting)
        return batch

    def _answer(self, batch: Sequence[Waiting]) -> None:
        engine = self.live.engine()
        queries = self._queries(engine, batch)
        by_request: dict[tuple[int, str], list[int]] = {}
        for number in queries:
            asked = batch[number].asked
            by_request.setdefault((asked.k, str(asked.only)), []).append(number)
        for numbers in by_request.values():
            found = _search(engine, {number: queries[number] for number in numbers}, batch[numbers[0]].asked)
            for number in numbers:
                batch[number].answer.set_result(Answered(engine.gallery, found[number]))

    def _queries(self, engine: Engine, batch: Sequence[Waiting]) -> dict[int, Queries]:
        """By number in the batch. Who names no row hears of it at once."""
        queries: dict[int, Queries] = {}
        for number, (asked, answer) in enumerate(batch):
            if isinstance(asked.what, str):
                try:
                    queries[number] = engine.query(asked.what)
                except UserError as error:
                    answer.set_exception(error)
        uploads = {number: asked for number, (asked, _) in enumerate(batch) if not isinstance(asked.what, str)}
        if uploads:
            pixels = stacked([np.asarray(asked.what) for asked in uploads.values()])
            infrared = torch.tensor([bool(asked.infrared) for asked in uploads.values()])
            for number, vector in zip(uploads, self.embedder(pixels, infrared).cpu(), strict=True):
                queries[number] = Queries(_unknown(f"\0{number}"), vector[None])
        return queries


def _search(engine: Engine, queries: Mapping[int, Queries], asked: Asked) -> dict[int, list[dict[str, Any]]]:
    """The answers of queries that ask for the same; equal rows are searched once."""
    path = {number: query.columns["path"][0].as_py() for number, query in queries.items()}
    some = list({path[number]: query for number, query in queries.items()}.values())
    together = Queries(pa.concat_tables([one.columns for one in some]), torch.cat([one.vectors for one in some]))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in path.values()}
    for row in engine.search(together, k=asked.k, only=asked.only).to_pylist():
        found[row.pop("query")].append(row | {"score": round(row["score"], 6)})
    return {number: [dict(row) for row in found[name]] for number, name in path.items()}


def _unknown(path: str) -> pa.Table:
    """The columns of an upload, of which nothing is known; its path is such as no file has."""
    nothing: dict[str, Any] = {name: pa.nulls(1, kind) for name, kind in COLUMNS.items()}
    return pa.table(nothing | {"path": pa.array([path], COLUMNS["path"])})
