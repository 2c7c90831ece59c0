"""A gallery on disk: a folder of Parquet shards, the record that says what made them, and its generation's list.

A row is an image, or a tracklet, known by its path; its vector is `embedding`, the raw bytes of float16 or float32
numbers, little-endian, of length one. Every shard carries the record, so that none is ever read as another network's.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.generations import MANIFEST, PLAN, Manifest, planned, read_manifest
from mpanet_pl.gallery.projection import Projection
from mpanet_pl.gallery.shards import COLUMNS, SAME, STORED, GalleryChanged, Shard, ShardFile, Skipped, open_shard
from mpanet_pl.system.files import written_aside

RECORD = "record.json"
PROJECTION = "projection.npz"
DTYPES = ("float16", "float32")


class Block(NamedTuple):
    start: int  # the number of its first row, in this generation
    columns: pa.Table  # those that were asked for, (n) rows
    vectors: Any  # (n, D), numpy's from a file, a tensor where it is held on a device


class Gallery:
    """One generation of an existing gallery, whole. Its shards are opened when they are read, block by block.

    Rows have the numbers 0, 1, … within this object alone; to others a row is named by its path. Whatever is read is
    of this generation; a `GalleryChanged` says that it cannot be read any more.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self._stamps = _stamps(self.folder)
        self.record = read_record(self.folder)
        self._hold(read_manifest(self.folder, self.record))

    def _hold(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.generation = manifest.generation
        self.starts = np.cumsum([0, *(shard.rows for shard in manifest.shards)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def shards(self) -> list[Path]:
        return [self.folder / shard.name for shard in self.manifest.shards]

    @property
    def dimension(self) -> int:
        return int(self.record["dimension"])

    @property
    def root(self) -> Path:
        return Path(self.record["root"])

    @property
    def current(self) -> bool:
        """Whether the folder still holds this generation, and was not made anew by another network."""
        stamps = _stamps(self.folder)
        if stamps is not None and stamps == self._stamps:
            return True
        try:
            record = read_record(self.folder)
            same = record == self.record and read_manifest(self.folder, record).generation == self.generation
        except UserError:
            return False
        if same:
            self._stamps = stamps
        return same

    def check_current(self) -> None:
        if not self.current:
            raise GalleryChanged(f"{self.folder} changed meanwhile: do the same again.")

    @property
    def unfinished(self) -> str:
        """What is not in the answers yet, in a sentence; empty where embed has finished."""
        if not (self.folder / PLAN).exists():
            return ""
        missing = planned(self.folder) - {shard.name for shard in self.manifest.shards}
        if not missing:
            return f"{self.folder} is not finished: run embed again."
        return f"{self.folder} is not finished: {len(missing)} shards are not in these answers. Run embed again."

    @cached_property
    def projection(self) -> Projection | None:
        if self.record["compact"] is None:
            return None
        projection = Projection.read(self.folder / PROJECTION)
        if projection.digest != self.record["compact"]:
            raise UserError(f"{self.folder / PROJECTION} is not the projection that this gallery was made with.")
        return projection

    def blocks(self, columns: Sequence[str] = ()) -> Iterator[Block]:
        return self.blocks_of(self.manifest.shards, columns)

    def blocks_of(self, shards: Sequence[Shard], columns: Sequence[str] = ()) -> Iterator[Block]:
        """The rows of some shards, part by part."""
        chosen = set(shards)
        for shard, first in self._numbered():
            if shard in chosen:
                opened = self._open(shard)
                for group, start, _ in opened.groups():
                    yield Block(first + start, opened.columns(columns, group), opened.vectors(group))

    def columns(self, *names: str) -> pa.Table:
        """Of every row; the vectors are not read."""
        tables = [self._open(shard).columns(names) for shard in self.manifest.shards]
        return pa.concat_tables(tables) if tables else _empty(names)

    def rows(self, numbers: np.ndarray) -> pa.Table:
        """All columns but the vectors of these rows, in their order."""
        wanted, place = np.unique(numbers, return_inverse=True)
        shard_of = np.searchsorted(self.starts, wanted, side="right") - 1
        parts = []
        for number in np.unique(shard_of):
            table = self._open(self.manifest.shards[number]).columns(tuple(COLUMNS))
            parts.append(table.take(pa.array(wanted[shard_of == number] - self.starts[number])))
        return pa.concat_tables(parts).take(pa.array(place.reshape(-1))) if parts else _empty(tuple(COLUMNS))

    def vectors(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, D) float32 of these rows, in their order; parts of shards in which none of them is are not read."""
        wanted = np.asarray(numbers, np.int64)
        found = np.empty((len(wanted), self.dimension), np.float32)
        for shard, first in self._numbered():
            if not ((wanted >= first) & (wanted < first + shard.rows)).any():
                continue
            opened = self._open(shard)
            for group, start, end in opened.groups():
                inside = (wanted >= first + start) & (wanted < first + end)
                if inside.any():
                    found[inside] = opened.vectors(group)[wanted[inside] - first - start]
        return found

    def skipped(self) -> list[Skipped]:
        """Every image that could not be read."""
        found = [image for shard in self.manifest.shards for image in self._open(shard).skipped]
        return sorted(found, key=lambda image: image.path)

    def _numbered(self) -> Iterator[tuple[Shard, int]]:
        """Each shard and the number of its first row."""
        return zip(self.manifest.shards, self.starts.tolist(), strict=False)

    def _open(self, shard: Shard) -> ShardFile:
        return open_shard(self.folder / shard.name, shard, self.record)


def gallery_projection(folder: Path) -> Projection | None:
    """What a gallery, begun or whole, made its vectors small with."""
    return Projection.read(folder / PROJECTION) if (folder / PROJECTION).exists() else None


def read_record(folder: str | Path) -> dict[str, Any]:
    if Path(folder, "checkpoints").is_dir():  # a run has a record.json, too
        raise UserError(f"{folder} is a run, not a gallery: embed ckpt={folder}/checkpoints/last.ckpt makes one.")
    try:
        record = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not record.keys() >= {*SAME, "root", "trained_on"}:
            raise ValueError("keys are missing")
        if not isinstance(record["root"], str) or "\0" in record["root"]:
            raise ValueError("root is no folder")
        if record["dtype"] not in DTYPES:
            raise ValueError(f"dtype is {record['dtype']!r}")
        if type(record["dimension"]) is not int or not 0 < record["dimension"] < 2**20:
            raise ValueError(f"dimension is {record['dimension']!r}")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is no gallery: it has no {RECORD}. python -m mpanet_pl.embed makes one.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{folder}/{RECORD} is damaged: {error}.") from error
    return record


def _stamps(folder: Path) -> list[tuple[int, ...]] | None:
    """What another record or another list of shards would not have, without reading them; None for galleries of 0.2.

    They are opened, because a network's file system looks at its server then.
    """
    stamps: list[tuple[int, ...]] = []
    try:
        for name in (RECORD, MANIFEST):
            with (folder / name).open("rb", buffering=0) as file:
                stat = os.fstat(file.fileno())
                stamps.append((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    except OSError:
        return None
    return stamps


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    with written_aside(folder / RECORD) as aside:
        aside.write_text(json.dumps(record, indent=2) + "\n")


def differing(record: Mapping[str, Any], other: Mapping[str, Any], keys: Sequence[str] = SAME) -> list[str]:
    """Where two records are not the same."""
    return [key for key in keys if record.get(key) != other.get(key)]


def _empty(names: Sequence[str]) -> pa.Table:
    return pa.table({name: pa.array([], STORED[name]) for name in names})
