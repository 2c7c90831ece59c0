"""A gallery on disk: a folder of Parquet shards, and the record that says what made them.

A row is an image, or a tracklet; its vector is `embedding`, the raw bytes of float16 or float32 numbers, little-endian,
of length one. Every shard carries the record, so that none is ever read as another network's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.compact import Projection
from mpanet_pl.system.files import written_aside

RECORD = "record.json"
PROJECTION = "projection.npz"
COPIES = "copies.json"
SHARDS = "part-*.parquet"
KEY = b"mpanet_pl"
DTYPES = ("float16", "float32")
BLOCK_BYTES = 2**25
COLUMNS = {
    "path": pa.string(),  # relative to the record's root, or absolute
    "camera": pa.string(),
    "time": pa.float64(),  # seconds
    "identity": pa.string(),
    "modality": pa.string(),  # visible, infrared
    "track": pa.string(),
    "frames": pa.int32(),  # that the vector is the mean of
}
COMPARABLE = ("checkpoint", "last_stride", "height", "width", "flip", "compact", "dimension")  # of two records
SAME = (*COMPARABLE, "dtype", "group")  # of a gallery's shards


class Block(NamedTuple):
    start: int  # the number of its first row
    columns: pa.Table  # those that were asked for, (n) rows
    vectors: Any  # (n, D), numpy's from a file, a tensor where it is held on a device


class Copy(NamedTuple):
    """Where else a gallery's rows were put: in which Milvus, under which names."""

    uri: str  # of a file the absolute path
    collection: str
    kind: str  # of index
    owed: Sequence[Mapping[str, Any]] = ()  # whom it has to forget yet

    @property
    def where(self) -> tuple[str, str, str]:
        return self[:3]

    @property
    def gone(self) -> bool:
        return "://" not in self.uri and not Path(self.uri).exists()


class Gallery:
    """An existing gallery. Its shards are looked at when it is opened, and read block by block."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.record = read_record(self.folder)
        self.shards = sorted(self.folder.glob(SHARDS))
        self.counts = [_open(path, self.record).metadata.num_rows for path in self.shards]
        self.starts = np.cumsum([0, *self.counts])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def dimension(self) -> int:
        return int(self.record["dimension"])

    @property
    def root(self) -> Path:
        return Path(self.record["root"])

    @cached_property
    def projection(self) -> Projection | None:
        if self.record["compact"] is None:
            return None
        projection = Projection.read(self.folder / PROJECTION)
        if projection.digest != self.record["compact"]:
            raise UserError(f"{self.folder / PROJECTION} is not the projection that this gallery was made with.")
        return projection

    def blocks(self, columns: Sequence[str] = ()) -> Iterator[Block]:
        for path, start in zip(self.shards, self.starts, strict=False):
            shard = _open(path, self.record)
            for group in range(shard.num_row_groups):
                table = _read(path, lambda: shard.read_row_group(group, [*columns, "embedding"]))  # noqa: B023
                vectors = vectors_of(table["embedding"].combine_chunks(), self.record["dtype"])
                yield Block(int(start), table.select(list(columns)), vectors)
                start += len(table)

    def columns(self, *names: str) -> pa.Table:
        """Of every row; the vectors are not read."""
        tables = [_read(path, lambda: _open(path, self.record).read(list(names))) for path in self.shards]  # noqa: B023
        return pa.concat_tables(tables) if tables else pa.table({name: pa.array([], COLUMNS[name]) for name in names})

    def rows(self, numbers: np.ndarray) -> pa.Table:
        """All columns but the vectors of these rows, in their order."""
        wanted, place = np.unique(numbers, return_inverse=True)
        shard_of = np.searchsorted(self.starts, wanted, side="right") - 1
        parts = []
        for number in np.unique(shard_of):
            path = self.shards[number]
            table = _read(path, lambda: _open(path, self.record).read(list(COLUMNS)))  # noqa: B023
            parts.append(table.take(pa.array(wanted[shard_of == number] - self.starts[number])))
        if not parts:
            return pa.table({name: pa.array([], kind) for name, kind in COLUMNS.items()})
        return pa.concat_tables(parts).take(pa.array(place.reshape(-1)))

    def vector(self, number: int) -> np.ndarray:
        """One row's vector, (D,) float32."""
        shard = int(np.searchsorted(self.starts, number, side="right") - 1)
        path, place = self.shards[shard], number - int(self.starts[shard])
        opened = _open(path, self.record)
        for group in range(opened.num_row_groups):
            count = opened.metadata.row_group(group).num_rows
            if place < count:
                table = _read(path, lambda: opened.read_row_group(group, ["embedding"]))  # noqa: B023
                return vectors_of(table["embedding"].combine_chunks(), self.record["dtype"])[place].astype(np.float32)
            place -= count
        raise IndexError(number)

    def skipped(self) -> list[tuple[str, str]]:
        """(path, reason) of every image that could not be read."""
        found = []
        for path in self.shards:
            stored = json.loads(_open(path, self.record).schema_arrow.metadata[KEY])
            found += [(str(image), str(reason)) for image, reason in stored["skipped"]]
        return sorted(found)


def gallery_projection(folder: Path) -> Projection | None:
    """What a gallery, begun or whole, made its vectors small with."""
    return Projection.read(folder / PROJECTION) if (folder / PROJECTION).exists() else None


def read_record(folder: str | Path) -> dict[str, Any]:
    try:
        record = json.loads((Path(folder) / RECORD).read_text())
        if not isinstance(record, dict) or not record.keys() >= {*SAME, "root", "trained_on"}:
            raise ValueError("keys are missing")
    except FileNotFoundError:
        raise UserError(f"{folder} is no gallery: it has no {RECORD}. python -m mpanet_pl.embed makes one.") from None
    except ValueError as error:
        raise UserError(f"{folder}/{RECORD} is damaged: {error}.") from error
    return record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    with written_aside(folder / RECORD) as aside:
        aside.write_text(json.dumps(record, indent=2) + "\n")


def copies_of(folder: Path) -> list[Copy]:
    """Of a gallery's rows: who is forgotten has to leave these, too."""
    try:
        return [Copy(**entry) for entry in json.loads((folder / COPIES).read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder / COPIES} has to say where copies are, and is damaged: {error}.") from error


def write_copies(folder: Path, copies: Sequence[Copy]) -> None:
    try:
        with written_aside(folder / COPIES) as aside:
            aside.write_text(json.dumps([copy._asdict() for copy in copies], indent=1) + "\n")
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise UserError(f"{folder / COPIES} has to say where copies are, and {reason}.") from error


def differing(record: Mapping[str, Any], other: Mapping[str, Any], keys: Sequence[str] = SAME) -> list[str]:
    """Where two records are not the same."""
    return [key for key in keys if record.get(key) != other.get(key)]


def write_shard(
    path: Path,
    columns: Mapping[str, Any],
    vectors: np.ndarray,
    record: Mapping[str, Any],
    skipped: Sequence[tuple[str, str]],
) -> None:
    """`columns` by name, (n) each, and unit vectors (n, D) float32; the same input gives the same bytes."""
    stored = np.ascontiguousarray(vectors.astype(np.dtype(record["dtype"]).newbyteorder("<")))
    width = stored.dtype.itemsize * int(record["dimension"])
    fields = [pa.field(name, kind) for name, kind in COLUMNS.items()]
    raw = pa.binary(width)
    content = json.dumps({**{key: record[key] for key in SAME}, "skipped": list(skipped)}, sort_keys=True)
    schema = pa.schema([*fields, pa.field("embedding", raw, nullable=False)], metadata={KEY: content.encode()})
    bytes_of = pa.FixedSizeBinaryArray.from_buffers(raw, len(stored), [None, pa.py_buffer(stored)])
    arrays = [
        pa.array(columns[name], kind) if name in columns else pa.nulls(len(stored), kind)
        for name, kind in COLUMNS.items()
    ]
    write_table(path, pa.Table.from_arrays([*arrays, bytes_of], schema=schema), width)


def write_table(path: Path, table: pa.Table, width: int) -> None:
    with written_aside(path) as aside:
        pq.write_table(
            table,
            aside,
            row_group_size=max(1, BLOCK_BYTES // width),
            compression={name: "none" if name == "embedding" else "zstd" for name in table.column_names},
            use_dictionary=[name for name in table.column_names if name not in ("path", "embedding")],
            write_statistics=[name for name in table.column_names if name != "embedding"],
            write_page_checksum=True,
        )


def vectors_of(column: pa.Array, dtype: str) -> np.ndarray:
    """(n, D) of a column of raw bytes, without a copy."""
    kind = np.dtype(dtype).newbyteorder("<")
    width = column.type.byte_width
    raw = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)
    return raw.view(kind).reshape(len(column), width // kind.itemsize)


def _open(path: Path, record: Mapping[str, Any]) -> Any:
    opened = _read(path, lambda: pq.ParquetFile(path, memory_map=True, page_checksum_verification=True))
    try:
        stored = json.loads((opened.schema_arrow.metadata or {})[KEY])
        of_another = differing(stored, record)
    except (KeyError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is no shard of a gallery: it carries no record.") from error
    if of_another:
        raise UserError(f"{path} is of another gallery: it differs in {', '.join(of_another)}.")
    return opened


def _read(path: Path, read: Any) -> Any:
    try:
        return read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged ({reason}): remove it, and embed makes it anew.") from error
