"""The same gallery in Milvus: embedded in a file (`people.db`), or on a server or cluster (`http://host:19530`).

For serving beyond one machine's memory, not for ranking an evaluation. Every limit is a cluster's, so that what works
embedded works there. The gallery keeps where its rows were put, so that who is forgotten leaves these copies, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pymilvus import DataType, MilvusClient, MilvusException

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.gallery.copies import Copy, copies_of, write_copies
from mpanet_pl.gallery.forgetting import NAMED, whom
from mpanet_pl.gallery.searching import Filter, Queries
from mpanet_pl.gallery.shards import TEXT
from mpanet_pl.gallery.store import COLUMNS, COMPARABLE, Gallery

INDEXES = ("FLAT", "HNSW", "IVF_FLAT")  # others are taken embedded, and fail when they are built; FLAT is exact
MOST_DIMENSIONS = 32_768
MOST_ANSWERS = 16_384
BYTES_AT_ONCE = 16_000_000  # of vectors; an insert takes 64 MB with all its columns
QUERIES_AT_ONCE = 256
LONGEST = 4096  # characters of a path, of which Milvus counts bytes
KINDS = {TEXT: DataType.VARCHAR, pa.float64(): DataType.DOUBLE, pa.int32(): DataType.INT32}


class Collection:
    """One gallery's rows in Milvus, the path being a row's key.

    What made the gallery is part of the collection's name, so that no other network's vectors ever stand in it.
    """

    def __init__(
        self,
        client: MilvusClient,
        gallery: Gallery,
        *,
        name: str = "gallery",
        index: str = "FLAT",
        uri: str = "its address",
    ) -> None:
        if index not in INDEXES:
            raise UserError(f"index is one of {', '.join(INDEXES)}, got {index}.")
        if not name.isidentifier():
            raise UserError(f"collection is a name of letters, digits and _, got {name}.")
        if gallery.dimension > MOST_DIMENSIONS:
            most = f"{MOST_DIMENSIONS} numbers, these have {gallery.dimension}"
            raise UserError(f"Milvus takes vectors of {most}: embed with compact=….")
        made_by = json.dumps({key: gallery.record[key] for key in (*COMPARABLE, "root")}, sort_keys=True)
        self.client, self.gallery, self.uri = client, gallery, uri
        self.name = f"{name}_{index}_{hashlib.sha256(made_by.encode()).hexdigest()[:16]}"
        if not client.has_collection(self.name):
            self._create(index)
        client.load_collection(self.name)

    def __len__(self) -> int:
        return int(self.client.query(self.name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def fill(self) -> int:
        """Insert the gallery's rows that are not there yet; how many they were. On the disk when it returns."""
        count = 0
        at_once = max(1, BYTES_AT_ONCE // (4 * self.gallery.dimension))
        for block in self.gallery.blocks(tuple(COLUMNS)):
            rows, vectors = block.columns.to_pylist(), block.vectors.astype(np.float32)
            for start in range(0, len(rows), at_once):
                some = rows[start : start + at_once]
                stored = self.client.get(self.name, ids=[row["path"] for row in some], output_fields=["path"])
                there = {entry["path"] for entry in stored}
                new = [
                    {**row, "embedding": vector}
                    for row, vector in zip(some, vectors[start : start + at_once], strict=True)
                    if row["path"] not in there
                ]
                if new:
                    self.client.upsert(self.name, new)
                    count += len(new)
        self.client.flush(self.name)  # acknowledged batches survive a killed process, only flushed ones a power cut
        return count

    def search(self, queries: Queries, *, k: int = 10, only: Filter = Filter()) -> pa.Table:  # noqa: B008 - a constant
        """A row a hit, as `table_of` gives it; a query's own image is left out."""
        if not 1 <= k < MOST_ANSWERS:
            raise UserError(f"k is at least 1 and, in Milvus, below {MOST_ANSWERS}, got {k}.")
        with _faults(self.uri):
            return self._search(queries, k, only)

    def query(self, path: str) -> Queries:
        """A row as a query."""
        with _faults(self.uri):
            found = self.client.get(self.name, ids=[path], output_fields=[*COLUMNS, "embedding"])
        if not found:
            raise UserError(f"The gallery has no row {path}.")
        row = _columns(found[0]) | {"path": str(self.gallery.root / path)}
        vector = torch.tensor(np.asarray(found[0]["embedding"], np.float32))
        return Queries(pa.Table.from_pylist([row], schema=pa.schema(COLUMNS)), vector[None])

    def _search(self, queries: Queries, k: int, only: Filter) -> pa.Table:
        known = queries.columns.to_pylist()
        each = only.other_camera or only.within is not None  # then every query has a filter of its own
        found: list[dict[str, Any]] = []
        for start in range(0, len(known), 1 if each else QUERIES_AT_ONCE):
            some = known[start : start + (1 if each else QUERIES_AT_ONCE)]
            expression = _expression(only, some[0])
            if expression is None:
                continue
            answers = self.client.search(
                self.name,
                data=queries.vectors[start : start + len(some)].numpy(),
                filter=expression,
                limit=k + 1,
                output_fields=list(COLUMNS),
            )
            for query, hits in zip(some, answers, strict=True):
                others = [hit for hit in hits if str(self.gallery.root / hit["entity"]["path"]) != query["path"]]
                found += [
                    {"query": query["path"], "place": place, "score": hit["distance"], **_columns(hit["entity"])}
                    for place, hit in enumerate(others[:k], start=1)
                ]
        kinds = {"query": TEXT, "place": pa.int32(), "score": pa.float32(), **COLUMNS}
        return pa.Table.from_pylist(found, schema=pa.schema(kinds))

    def forget(self, *, before: float | None = None, **named: Sequence[str]) -> int:
        """Delete the rows for which all that is given holds, as `forgetting.forget` does."""
        asked = whom(before=before, **named)
        terms = [_among(name, asked[name]) for name in NAMED if name in asked]
        if "before" in asked:
            terms.append(f"time < {asked['before']!r}")
        count = len(self)
        self.client.delete(self.name, filter=" and ".join(terms))
        self.client.flush(self.name)
        return count - len(self)

    def _create(self, index: str) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        for name, kind in COLUMNS.items():
            length = {"max_length": LONGEST} if kind == TEXT else {}
            role = {"is_primary": True} if name == "path" else {"nullable": True}
            schema.add_field(name, KINDS[kind], **length, **role)
        schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=self.gallery.dimension)
        parameters = self.client.prepare_index_params()
        settings = {"HNSW": {"M": 16, "efConstruction": 200}, "IVF_FLAT": {"nlist": 1024}}.get(index, {})
        parameters.add_index("embedding", index_type=index, metric_type="IP", params=settings)
        self.client.create_collection(self.name, schema=schema, index_params=parameters, consistency_level="Strong")


@contextmanager
def connected(uri: str, *, token: str | None = None) -> Iterator[MilvusClient]:
    """A client, whose faults are sentences meanwhile."""
    try:
        client = MilvusClient(uri, **({"token": token} if token else {}))
    except (MilvusException, OSError, ValueError) as error:
        raise _told(uri, error) from error
    try:
        with _faults(uri):
            yield client
    finally:
        client.close()


def copy_at(uri: str, collection: str, index: str) -> Copy:
    return Copy(uri if "://" in uri else str(Path(uri).expanduser().absolute()), collection, index)


@contextmanager
def filled(gallery: Gallery, copy: Copy, *, token: str | None = None) -> Iterator[Collection]:
    """The gallery's rows in Milvus, all and no others; that they are there is written down first."""
    if copy.where not in [known.where for known in copies_of(gallery.folder)]:
        write_copies(gallery.folder, [*copies_of(gallery.folder), copy])
    with _opened(gallery, copy, token) as collection:
        if len(collection) != len(gallery):
            print(f"{collection.fill()} rows are new to {copy.uri}.", flush=True)
        if len(collection) > len(gallery):
            raise UserError(f"{copy.uri} holds rows that are not in {gallery.folder}: give another collection=….")
        yield collection


def settle(gallery: Gallery, copies: Sequence[Copy], *, token: str | None = None) -> dict[str, str]:
    """Let copies forget whom they have to forget yet; by the uri of those that still do not, why."""
    faults = {}
    for copy in copies:
        if not copy.owed:
            continue
        if copy.gone:
            faults[copy.uri] = "it is not there any more, and wherever it was moved to, it holds them"
            _write_down(gallery.folder, copy, None)
            continue
        try:
            with _opened(gallery, copy, token):
                pass
        except (UserError, RunStopped) as error:
            faults[copy.uri] = f"{error} They leave it when it is next searched or served, or with the same command"
    return faults


@contextmanager
def _opened(gallery: Gallery, copy: Copy, token: str | None) -> Iterator[Collection]:
    """A copy that owes nothing any more."""
    with connected(copy.uri, token=token) as client:
        collection = Collection(client, gallery, name=copy.collection, index=copy.kind, uri=copy.uri)
        known = [other for other in copies_of(gallery.folder) if other.where == copy.where]
        for asked in (known[0] if known else copy).owed:
            collection.forget(**asked)
        if known and known[0].owed:
            _write_down(gallery.folder, copy, copy._replace(owed=()))
        yield collection


def _write_down(folder: Path, copy: Copy, now: Copy | None) -> None:
    others = [other for other in copies_of(folder) if other.where != copy.where]
    write_copies(folder, [*others, *([now] if now else [])])


@contextmanager
def _faults(uri: str) -> Iterator[None]:
    try:
        yield
    except MilvusException as error:
        raise _told(uri, error) from error


def _told(uri: str, error: Exception) -> UserError | RunStopped:
    said = str(getattr(error, "message", error)).splitlines()[0]
    if "Open local milvus failed" in str(error):
        return UserError(f"uri={uri} cannot be opened: another process has it open, or it is no file of Milvus.")
    return RunStopped(f"Milvus at {uri} does not do it: {said}")


def _expression(only: Filter, query: dict[str, Any]) -> str | None:
    """Of the rows that may answer; None where nobody may."""
    terms = [_among("camera", only.cameras)] if only.cameras else []
    if only.not_cameras:
        terms.append(f"(camera is not null and not ({_among('camera', only.not_cameras)}))")
    if only.modality is not None:
        terms.append(f"modality == {_quoted(only.modality)}")
    if only.after is not None:
        terms.append(f"time >= {float(only.after)!r}")
    if only.before is not None:
        terms.append(f"time <= {float(only.before)!r}")
    if only.other_camera:
        if query["camera"] is None:
            return None
        terms.append(f"(camera is not null and camera != {_quoted(query['camera'])})")
    if only.within is not None:
        if query["time"] is None:
            return None
        terms.append(f"time >= {query['time'] - only.within!r} and time <= {query['time'] + only.within!r}")
    return " and ".join(terms)


def _among(name: str, values: Sequence[Any]) -> str:
    return f"{name} in [{', '.join(map(_quoted, values))}]"


def _quoted(value: Any) -> str:
    return json.dumps(str(value), ensure_ascii=False)


def _columns(entity: dict[str, Any]) -> dict[str, Any]:
    return {name: entity.get(name) for name in COLUMNS}
