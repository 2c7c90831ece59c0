"""One shard of a gallery: a Parquet file of rows, whose footer says what made it and what could not be read.

A shard is never changed: whoever drops rows writes another file. Its footer holds a digest of its content, by which a
reader knows that the file is the one that its generation names.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.system.files import written_aside

KEY = b"mpanet_pl"
BLOCK_BYTES = 2**25
TEXT = pa.large_string()  # 32-bit offsets end at 27 million paths
COLUMNS = {
    "path": TEXT,  # the row's name: relative to the record's root, or absolute
    "camera": TEXT,
    "time": pa.float64(),  # seconds
    "identity": TEXT,
    "modality": TEXT,  # visible, infrared
    "track": TEXT,  # within its camera
    "frames": pa.int32(),  # that the vector is the mean of
}
STAMP = {"size": pa.int64(), "modified": pa.int64()}  # of the image file as it was embedded: bytes, nanoseconds
STORED = COLUMNS | STAMP
COMPARABLE = ("checkpoint", "last_stride", "height", "width", "flip", "compact", "dimension")  # of two records
SAME = (*COMPARABLE, "dtype", "group")  # of a gallery's shards


class GalleryChanged(RunStopped):
    """The gallery has another generation now; whoever reads begins anew."""


class Skipped(NamedTuple):
    """An image that could not be read."""

    path: str
    reason: str
    columns: Mapping[str, Any] = {}  # what is known of it, as of a row


class Shard(NamedTuple):
    """A shard as a generation names it."""

    name: str
    rows: int
    digest: str

    @property
    def number(self) -> int:
        return int(self.name.split("-")[1].partition(".")[0])


class ShardFile:
    """A shard's file, open, whose footer agrees with the gallery's record; its pages are read when they are asked for.

    digest: of its content, which its footer holds; 0.2 left none, and rewrote its shards.
    skipped: the images that could not be read.
    """

    def __init__(self, path: Path, record: Mapping[str, Any]) -> None:
        self.path, self.record = path, record
        self._file = self._read(lambda: pq.ParquetFile(path, memory_map=True, page_checksum_verification=True))
        try:
            stored = json.loads((self._file.schema_arrow.metadata or {})[KEY])
            differing = [key for key in SAME if record.get(key) != stored.get(key)]
        except (KeyError, ValueError, AttributeError) as error:
            raise UserError(f"{path} is no shard of a gallery: it carries no record.") from error
        if differing:
            raise UserError(f"{path} is of another gallery: it differs in {', '.join(differing)}.")
        try:
            self.skipped = [Skipped(str(image), str(why), dict(*known)) for image, why, *known in stored["skipped"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is damaged (its list of skipped images): remove it, and embed makes it anew."
            ) from error
        stat = self._read(path.stat)
        by_file = f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"
        self.digest = stored["digest"] if isinstance(stored.get("digest"), str) else by_file

    @property
    def shard(self) -> Shard:
        return Shard(self.path.name, self._file.metadata.num_rows, self.digest)

    def groups(self) -> Iterator[tuple[int, int, int]]:
        """The parts that can be read alone: a number, its first row, and the row after its last."""
        start = 0
        for number in range(self._file.num_row_groups):
            end = start + self._file.metadata.row_group(number).num_rows
            yield number, start, end
            start = end

    def columns(self, names: Sequence[str], group: int | None = None) -> pa.Table:
        """These columns, null where an older shard does not have them."""
        there = [name for name in names if name in self._file.schema_arrow.names]
        return completed(self._table(there, group), names)

    def vectors(self, group: int | None = None) -> np.ndarray:
        """(n, D) as they are stored."""
        column = self._table(["embedding"], group)["embedding"].combine_chunks()
        kind, width = np.dtype(self.record["dtype"]).newbyteorder("<"), column.type.byte_width
        raw = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)  # no copy
        return raw.view(kind).reshape(len(column), width // kind.itemsize)

    def _table(self, names: list[str], group: int | None) -> pa.Table:
        groups = list(range(self._file.num_row_groups)) if group is None else [group]
        return self._read(lambda: self._file.read_row_groups(groups, names))

    def _read(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.path} is damaged ({reason}): remove it, and embed makes it anew.") from error


def open_shard(path: Path, shard: Shard, record: Mapping[str, Any]) -> ShardFile:
    """The file of a shard, known by its digest; `GalleryChanged` where it is gone, or another's."""
    try:
        opened = ShardFile(path, record)
    except UserError as error:
        if path.exists():
            raise
        raise GalleryChanged(f"{path} is gone: another process changed the gallery. Do the same again.") from error
    if opened.digest != shard.digest:
        raise GalleryChanged(f"{path} is another now: a process changed the gallery. Do the same again.")
    return opened


def completed(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """A table with exactly these columns, as this package has them."""
    columns = {
        name: table[name].cast(STORED[name]) if name in table.column_names else pa.nulls(len(table), STORED[name])
        for name in names
    }
    return pa.table(columns)


def write_shard(
    path: Path,
    columns: Any,
    vectors: np.ndarray,
    record: Mapping[str, Any],
    skipped: Sequence[Skipped] = (),
    *,
    named_by_content: bool = False,
) -> Path:
    """`columns`, a table or arrays by name, and unit vectors (n, D); the same input gives the same bytes.

    named_by_content: the file's name gets the first digits of its digest.
    """
    vectors = np.ascontiguousarray(vectors.astype(np.dtype(record["dtype"]).newbyteorder("<"), copy=False))
    columns = completed(pa.table(columns), tuple(STORED))
    digest = _digest(columns, vectors, skipped)
    if named_by_content:
        path = path.with_name(f"{path.stem}-{digest[:8]}{path.suffix}")
    footer = {**{key: record[key] for key in SAME}, "skipped": [list(image) for image in skipped], "digest": digest}
    raw = pa.binary(vectors.dtype.itemsize * int(record["dimension"]))
    fields = [*(pa.field(column, kind) for column, kind in STORED.items()), pa.field("embedding", raw, nullable=False)]
    schema = pa.schema(fields, metadata={KEY: json.dumps(footer, sort_keys=True).encode()})
    embeddings = pa.FixedSizeBinaryArray.from_buffers(raw, len(vectors), [None, pa.py_buffer(vectors)])
    table = pa.Table.from_arrays([*(columns[name].combine_chunks() for name in STORED), embeddings], schema=schema)
    with written_aside(path) as aside:
        pq.write_table(
            table,
            aside,
            row_group_size=max(1, BLOCK_BYTES // raw.byte_width),
            compression={column: "none" if column == "embedding" else "zstd" for column in table.column_names},
            use_dictionary=[column for column in table.column_names if column not in ("path", "embedding")],
            write_statistics=[column for column in table.column_names if column != "embedding"],
            write_page_checksum=True,
        )
    return path


def track_keys(cameras: Any, tracks: Any) -> Any:
    """A tracklet is known by its camera and its track: trackers count from 0 in each camera."""
    return pc.binary_join_element_wise(pc.fill_null(cameras, "\0"), tracks, pa.scalar("\x1f", TEXT))


def tracklets(images: pa.Table) -> pa.Table:
    """A row a tracklet, in order of appearance: its first frame's columns, the number of its frames, their stamps.

    The stamps of several files are the sum of their sizes and their latest change.
    """
    first = pc.ScalarAggregateOptions(skip_nulls=False)
    names = [name for name in images.column_names if name not in ("frames", *STAMP)]
    wanted: list[Any] = [
        *((name, "first", first) for name in names),
        ("size", "sum"),
        ("modified", "max"),
        ([], "count_all"),
    ]
    keyed = images.append_column("key", track_keys(images["camera"], images["track"]))
    found = keyed.group_by("key", use_threads=False).aggregate(wanted)
    return pa.table(
        {name: found[f"{name}_first"] for name in names}
        | {"size": found["size_sum"], "modified": found["modified_max"], "frames": found["count_all"].cast(pa.int32())}
    )


def _digest(columns: pa.Table, vectors: np.ndarray, skipped: Sequence[Skipped]) -> str:
    digest = hashlib.sha256(repr([columns.to_pydict(), [list(image) for image in skipped]]).encode())
    digest.update(vectors.data)
    return digest.hexdigest()[:32]
