"""Who searches a gallery for the service: held in memory, or wherever else; always its present generation."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.gallery.searching import Filter, Queries, search, table_of
from mpanet_pl.gallery.shards import COLUMNS, COMPARABLE
from mpanet_pl.gallery.store import Block, Gallery, differing


class Engine(Protocol):
    """Who searches one generation of a gallery, asked from one thread."""

    @property
    def gallery(self) -> Gallery: ...

    def query(self, path: str) -> Queries:
        """Of the row of this path; a `UserError` where there is none."""

    def search(self, queries: Queries, *, k: int, only: Filter) -> pa.Table:
        """As `table_of` has it."""


class HeldGallery(Gallery):
    """A generation in memory: its vectors on the device that searches them, exactly."""

    def __init__(self, folder: str | Path, device: torch.device | str) -> None:
        super().__init__(folder)
        self.device = device
        names = ("path", "camera", "time", "modality")
        self._blocks = [
            block._replace(vectors=torch.tensor(block.vectors).to(device).float()) for block in super().blocks(names)
        ]
        self._rows_held = super().columns(*COLUMNS)

    def blocks(self, columns: Sequence[str] = ()) -> Iterator[Block]:
        return (block._replace(columns=block.columns.select(list(columns))) for block in self._blocks)

    def columns(self, *names: str) -> pa.Table:
        return self._rows_held.select(list(names))

    def rows(self, numbers: np.ndarray) -> pa.Table:
        return self._rows_held.take(pa.array(numbers))

    @property
    def gallery(self) -> Gallery:
        return self

    def query(self, path: str) -> Queries:
        row = pc.index(self._rows_held["path"], path).as_py()
        if row < 0:
            raise UserError(f"The gallery has no row {path}.")
        known = self.rows(np.array([row]))
        columns = known.set_column(0, "path", pa.array([str(self.root / path)], COLUMNS["path"]))
        return Queries(columns, torch.from_numpy(self.vectors([row])))

    def search(self, queries: Queries, *, k: int, only: Filter) -> pa.Table:
        hits = search(self, queries, k=min(k, max(1, len(self))), only=only, device=self.device)
        return table_of(self, queries, hits)


class Live:
    """The engine of a gallery's present generation: another one is opened as soon as embed or forget changed it.

    `engine` is asked from the one thread that searches; `gallery` from any.
    """

    def __init__(self, folder: str | Path, opened: Callable[[Path], AbstractContextManager[Engine]]) -> None:
        self.folder, self._opened = Path(folder), opened
        self._record = Gallery(folder).record
        self._stack = ExitStack()
        self._engine: Engine | None = None

    def engine(self) -> Engine:
        engine = self._engine
        if engine is None or not engine.gallery.current:
            engine = None
            self.close()  # first: two generations need not fit into memory, and a Milvus file is opened once
            self._check()
            engine = self._engine = self._stack.enter_context(self._opened(self.folder))
        return engine

    def gallery(self) -> Gallery:
        """The present generation, from memory where it is there."""
        engine = self._engine
        return engine.gallery if engine is not None and engine.gallery.current else self._check()

    def close(self) -> None:
        self._engine = None
        self._stack.close()

    def _check(self) -> Gallery:
        try:
            gallery = Gallery(self.folder)
        except UserError as error:  # no mistake of whoever asks
            raise RunStopped(f"The gallery cannot be read now: {error}") from error
        if other := differing(self._record, gallery.record, COMPARABLE):
            raise RunStopped(f"{self.folder} was made anew by another network ({', '.join(other)}): start serve again.")
        return gallery
