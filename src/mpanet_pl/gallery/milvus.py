"""The same gallery in Milvus: embedded in a file (`people.db`), or on a server or cluster (`http://host:19530`).

For serving beyond one machine's memory, not for ranking an evaluation. Every limit is a cluster's, so that what works
embedded works there. A few shards make a partition, whose name holds the digest of what is in it: so a collection is
known by its content, only what is new is inserted, and who is forgotten leaves with the partition's files.
"""

import hashlib
import json
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pymilvus import DataType, MilvusClient, MilvusException

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.gallery.copies import Copy, copies_of, copy_for, replace_copy
from mpanet_pl.gallery.searching import Filter, Queries
from mpanet_pl.gallery.shards import COLUMNS, COMPARABLE, TEXT, Shard
from mpanet_pl.gallery.store import Gallery

INDEXES = ("FLAT", "HNSW", "IVF_FLAT")  # others are taken embedded, and fail when they are built; FLAT is exact
MOST_DIMENSIONS = 32_768
MOST_ANSWERS = 16_384
MOST_PARTITIONS = 512  # Milvus takes 1 024
BYTES_AT_ONCE = 16_000_000  # of vectors; an insert takes 64 MB with all its columns
QUERIES_AT_ONCE = 256
LONGEST = 4096  # characters of a path, of which Milvus counts bytes
KINDS = {TEXT: DataType.VARCHAR, pa.float64(): DataType.DOUBLE, pa.int32(): DataType.INT32}
DEFAULT = "_default"  # the partition that every collection has


class Collection:
    """One generation of a gallery in Milvus, the path being a row's key."""

    def __init__(
        self, client: MilvusClient, gallery: Gallery, name: str, *, index: str = "FLAT", uri: str = ""
    ) -> None:
        if index not in INDEXES:
            raise UserError(f"index is one of {', '.join(INDEXES)}, got {index}.")
        if not name.isidentifier():
            raise UserError(f"collection is a name of letters, digits and _, got {name}.")
        if gallery.dimension > MOST_DIMENSIONS:
            most = f"{MOST_DIMENSIONS} numbers, these have {gallery.dimension}"
            raise UserError(f"Milvus takes vectors of {most}: embed with compact=….")
        self.client, self.gallery, self.name, self.uri = client, gallery, name, uri
        if not client.has_collection(name):
            self._create(index)
        client.load_collection(name)

    def __len__(self) -> int:
        return int(self.client.query(self.name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def fill(self) -> int:
        """Make it the gallery's generation; how many rows were inserted. On the disk when it returns."""
        wanted = partitions(self.gallery.manifest.shards)
        there = set(self.client.list_partitions(self.name)) - {DEFAULT}
        self._drop(there - wanted.keys())
        count = sum(self._insert(name, shards) for name, shards in wanted.items() if name not in there)
        if len(self) != len(self.gallery):  # a killed process left a part of a partition
            self._drop(set(self.client.list_partitions(self.name)) - {DEFAULT})
            count = sum(self._insert(name, shards) for name, shards in wanted.items())
        return count

    def _drop(self, names: set[str]) -> None:
        if not names:
            return
        self.client.release_collection(self.name)  # Milvus drops no partition that it searches
        for name in sorted(names):
            self.client.drop_partition(self.name, name)
        self.client.load_collection(self.name)

    def _insert(self, partition: str, shards: Sequence[Shard]) -> int:
        self.client.create_partition(self.name, partition)
        at_once = max(1, BYTES_AT_ONCE // (4 * self.gallery.dimension))
        count = 0
        for block in self.gallery.blocks_of(shards, tuple(COLUMNS)):
            rows, vectors = block.columns.to_pylist(), block.vectors.astype(np.float32)
            for start in range(0, len(rows), at_once):
                some = zip(rows[start : start + at_once], vectors[start : start + at_once], strict=True)
                new = [{**row, "embedding": vector} for row, vector in some]
                self.client.insert(self.name, new, partition_name=partition)
                count += len(new)
        self.client.flush(self.name)  # acknowledged batches survive a killed process, only flushed ones a power cut
        return count

    def search(self, queries: Queries, *, k: int = 10, only: Filter = Filter()) -> pa.Table:  # noqa: B008 - a constant
        """A row a hit, as `table_of` gives it; a query's own image is left out."""
        if not 1 <= k < MOST_ANSWERS:
            raise UserError(f"k is at least 1 and, in Milvus, below {MOST_ANSWERS}, got {k}.")
        known = queries.columns.to_pylist()
        at_once = 1 if only.other_camera or only.within is not None else QUERIES_AT_ONCE  # a filter for each query
        found: list[dict[str, Any]] = []
        for start in range(0, len(known), at_once):
            some = known[start : start + at_once]
            if (expression := _expression(only, some[0])) is None:
                continue
            with _faults(self.uri):
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

    def query(self, path: str) -> Queries:
        """A row as a query."""
        with _faults(self.uri):
            found = self.client.get(self.name, ids=[path], output_fields=[*COLUMNS, "embedding"])
        if not found:
            raise UserError(f"The gallery has no row {path}.")
        row = _columns(found[0]) | {"path": str(self.gallery.root / path)}
        vector = torch.tensor(np.asarray(found[0]["embedding"], np.float32))
        return Queries(pa.Table.from_pylist([row], schema=pa.schema(COLUMNS)), vector[None])

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
        raise _failure(uri, error) from error
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
    copy = copy_for(gallery, copy)
    with _opened(gallery, copy, token) as (collection, count):
        if count:
            print(f"{count} rows are new to {copy.uri}.", flush=True)
        gallery.check_current()
        yield collection


def bring_up_to_date(gallery: Gallery, copies: Sequence[Copy], *, token: str | None = None) -> dict[str, str]:
    """Let copies forget whom they have to forget yet; by the uri of those that still do not, why."""
    faults = {}
    for copy in copies:
        if copy.gone:
            faults[copy.uri] = "it is not there any more, and wherever it was moved to, it holds them"
            replace_copy(gallery.folder, copy, None)
            continue
        try:
            with _opened(gallery, copy, token):
                pass
        except (UserError, RunStopped) as error:
            faults[copy.uri] = f"{error} They leave it when it is next searched or served, or with the same command"
    return faults


def drop_holding(copy: Copy, paths: Sequence[str], *, token: str | None = None) -> list[str]:
    """Drop the collections of this name, whoever filled them, that hold one of these rows; their names."""
    dropped = []
    with connected(copy.uri, token=token) as client:
        for name in client.list_collections():
            if name.startswith(f"{copy.collection}_{copy.kind}_"):
                client.load_collection(name)
                some = (paths[start : start + QUERIES_AT_ONCE] for start in range(0, len(paths), QUERIES_AT_ONCE))
                if any(client.query(name, filter=_among("path", each), limit=1) for each in some):
                    client.drop_collection(name)
                    dropped.append(name)
    return dropped


def still_in(uri: str, vectors: np.ndarray) -> list[Path]:
    """The files of an embedded Milvus in which the bytes of one of these vectors (n, D) stand."""
    needles = [row.astype("<f4").tobytes() for row in vectors]
    found = []
    for path in [Path(uri), *Path(uri).rglob("*")] if "://" not in uri else []:
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if any(content.find(needle) >= 0 for needle in needles):
                    found.append(path)
    return found


def partitions(shards: Sequence[Shard]) -> dict[str, list[Shard]]:
    """A generation's shards in groups, by names that say what is in them."""
    size = 8
    while len({shard.number // size for shard in shards}) > MOST_PARTITIONS:
        size *= 2
    groups: dict[int, list[Shard]] = {}
    for shard in shards:
        if shard.rows:
            groups.setdefault(shard.number // size, []).append(shard)
    named = {}
    for number, group in groups.items():
        digest = hashlib.sha256(repr([tuple(shard) for shard in group]).encode()).hexdigest()[:16]
        named[f"g{number}_{digest}"] = group
    return named


@contextmanager
def _opened(gallery: Gallery, copy: Copy, token: str | None) -> Iterator[tuple[Collection, int]]:
    """A copy that is the gallery's generation, so that it owes nothing any more; and how many rows are new to it."""
    with connected(copy.uri, token=token) as client:
        if not copy.name:  # 0.2's collection, from which nothing was ever deleted for good
            made_by = json.dumps({key: gallery.record[key] for key in (*COMPARABLE, "root")}, sort_keys=True)
            old = f"{copy.collection}_{copy.kind}_{hashlib.sha256(made_by.encode()).hexdigest()[:16]}"
            if client.has_collection(old):
                client.drop_collection(old)
            replace_copy(gallery.folder, copy, None)
            copy = copy_for(gallery, copy)
        collection = Collection(client, gallery, copy.name, index=copy.kind, uri=copy.uri)
        count = collection.fill()
        if next((known for known in copies_of(gallery.folder) if known == copy and known.owed), None):
            replace_copy(gallery.folder, copy, copy._replace(owed=()))
        yield collection, count


@contextmanager
def _faults(uri: str) -> Iterator[None]:
    try:
        yield
    except MilvusException as error:
        raise _failure(uri, error) from error


def _failure(uri: str, error: Exception) -> UserError | RunStopped:
    reason = str(getattr(error, "message", error)).splitlines()[0]
    if "Open local milvus failed" in str(error):
        return UserError(f"uri={uri} cannot be opened: another process has it open, or it is no file of Milvus.")
    return RunStopped(f"Milvus at {uri} does not do it: {reason}")


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
