"""Which shards a gallery has: its generation, named by the digest of what is in it.

Whoever changes a gallery writes new shards, then this list, aside and renamed, then removes the old shards. So a reader
that has a list reads that generation's rows or, where a shard is gone, learns that there is another.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.shards import STORED, GalleryChanged, Shard, ShardFile, Skipped, open_shard, write_shard
from mpanet_pl.system.files import sweep_up, written_aside

T = TypeVar("T")
MANIFEST = "manifest.json"
PLAN = "plan.parquet"
PARTS = "part-*.parquet"
NAME = re.compile(r"part-\d{6,12}(-[0-9a-f]{8})?\.parquet")
ATTEMPTS = 20


class Manifest(NamedTuple):
    shards: tuple[Shard, ...]

    @property
    def generation(self) -> str:
        """Equal where the rows are; another after every change."""
        return hashlib.sha256(repr([tuple(shard) for shard in self.shards]).encode()).hexdigest()[:16]


def read_manifest(folder: Path, record: Mapping[str, Any]) -> Manifest:
    path = folder / MANIFEST
    try:
        stored = json.loads(path.read_text())
        shards = tuple(Shard(str(name), int(rows), str(digest)) for name, rows, digest in stored["shards"])
        if bad := [shard.name for shard in shards if not NAME.fullmatch(shard.name) or shard.rows < 0]:
            raise ValueError(f"{bad[0]} is no shard")
    except FileNotFoundError:  # a gallery of 0.2
        return Manifest(tuple(ShardFile(path, record).shard for path in sorted(folder.glob(PARTS))))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}. Remove it, and all shards that are there count.") from error
    return Manifest(shards)


def commit(folder: Path, shards: Iterable[Shard], *, others_write: bool = False) -> Manifest:
    """Make these shards the gallery's next generation; one that neither it nor a plan names is removed.

    others_write: nothing is removed, because other processes are writing shards now.
    """
    manifest = Manifest(tuple(sorted(shards, key=lambda shard: shard.name)))
    with written_aside(folder / MANIFEST) as aside:
        lines = ",\n".join(json.dumps(list(shard)) for shard in manifest.shards)
        aside.write_text(f'{{"format": 1, "generation": "{manifest.generation}", "shards": [\n{lines}\n]}}\n')
    if not others_write:
        sweep(folder, manifest)
    return manifest


def sweep(folder: Path, manifest: Manifest) -> int:
    """Remove what killed processes left, in a folder that nobody else writes to now; how many shards it was."""
    sweep_up(folder)
    kept = {shard.name for shard in manifest.shards} | planned(folder)
    left = [path for path in folder.glob(PARTS) if path.name not in kept]
    for path in left:
        path.unlink()
    return len(left)


def planned(folder: Path) -> set[str]:
    """The shards that an embed has yet to make, or to hand over."""
    try:
        groups = pq.read_metadata(folder / PLAN)
        place = groups.schema.to_arrow_schema().get_field_index("shard")
        ranges = [groups.row_group(number).column(place).statistics for number in range(groups.num_row_groups)]
        numbers = range(min(part.min for part in ranges), 1 + max(part.max for part in ranges))
    except FileNotFoundError:
        return set()
    except (pa.ArrowException, OSError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / PLAN} is damaged: remove it, and run embed again.") from error
    return {shard_name(number) for number in numbers}


def shard_name(number: int) -> str:
    return f"part-{number:06d}.parquet"


def refuse_link(shard: Path) -> None:
    if shard.is_symlink():
        raise UserError(
            f"{shard} is a symbolic link to {shard.resolve()}: rows that leave the gallery would stay there. "
            "Put the file itself here."
        )


class Change(NamedTuple):
    """What becomes of a shard: which of its rows stay, with which columns, and which skipped images."""

    rows: np.ndarray  # numbers within the shard
    columns: pa.Table  # of these rows
    skipped: Sequence[Skipped]


Edit = Callable[[pa.Table, list[Skipped]], Change | None]


def rewrite(folder: Path, record: Mapping[str, Any], manifest: Manifest, edit: Edit) -> Manifest:
    """Ask `edit` of every shard (its columns without vectors, its skipped images); None leaves it as it is."""
    changes: dict[Shard, Shard | None] = {}
    for shard in manifest.shards:
        opened = open_shard(folder / shard.name, shard, record)
        change = edit(opened.columns(tuple(STORED)), opened.skipped)
        if change is None:
            continue
        refuse_link(opened.path)
        changes[shard] = None
        if len(change.rows) or change.skipped:
            changes[shard] = _written(opened, change.columns, opened.vectors()[change.rows], change.skipped)
    if not changes:
        return manifest
    kept = [changes.get(shard, shard) for shard in manifest.shards]
    return commit(folder, [shard for shard in kept if shard is not None])


def _written(old: ShardFile, columns: pa.Table, vectors: np.ndarray, skipped: Sequence[Skipped]) -> Shard:
    """A shard that takes the place of `old` and perhaps of others, named by its content."""
    path = old.path.with_name(shard_name(old.shard.number))
    written = write_shard(path, columns, vectors, old.record, skipped, named_by_content=True)
    return ShardFile(written, old.record).shard


def merged(folder: Path, record: Mapping[str, Any], manifest: Manifest, size: int, few: int = 8) -> Manifest:
    """Neighbouring small shards become one of up to `size` rows, once there are so many of them."""
    small = [shard for shard in manifest.shards if 2 * shard.rows < size]
    if len(small) < few or any((folder / shard.name).is_symlink() for shard in small):
        return manifest
    groups: list[list[Shard]] = [[]]
    for shard in small:
        if groups[-1] and sum(one.rows for one in groups[-1]) + shard.rows > size:
            groups.append([])
        groups[-1].append(shard)
    made, gone = [], set()
    for group in groups:
        if len(group) > 1:
            opened = [open_shard(folder / shard.name, shard, record) for shard in group]
            columns = pa.concat_tables([one.columns(tuple(STORED)) for one in opened])
            vectors = np.concatenate([one.vectors() for one in opened])
            made.append(_written(opened[0], columns, vectors, [image for one in opened for image in one.skipped]))
            gone |= set(group)
    return commit(folder, [*(shard for shard in manifest.shards if shard not in gone), *made])


def of_one_generation(opened: Callable[[], T], work: Callable[[T], Any]) -> Any:
    """`work(opened())`, again where the gallery changed meanwhile."""
    for _ in range(ATTEMPTS - 1):
        try:
            return work(opened())
        except GalleryChanged:
            continue
    return work(opened())
