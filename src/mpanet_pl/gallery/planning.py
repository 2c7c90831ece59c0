"""What there is to embed: images that are new, changed or repaired; and what a gallery holds that is there no more.

What is to be done is written down first (`plan.parquet`), cut into shards. Rows of changed files leave the gallery
before their images are embedded anew, so that no stale vector ever answers.
"""

import csv
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mpanet_pl.data.faults import listed
from mpanet_pl.gallery.generations import MANIFEST, PLAN, Change, commit, planned, read_manifest, rewrite, sweep
from mpanet_pl.gallery.image_table import DETAILS
from mpanet_pl.gallery.shards import STAMP, TEXT, ShardFile, Skipped, track_keys, tracklets
from mpanet_pl.gallery.store import Gallery, read_record
from mpanet_pl.gallery.walking import absolute, stamps
from mpanet_pl.system.files import written_aside

SKIPPED = "skipped.csv"
NO_PATHS = pa.chunked_array([pa.array([], TEXT)])


class Found(NamedTuple):
    """What a listing and a gallery say of one another, by the paths of rows."""

    changed: Any  # rows whose files are others now
    updated: pa.Table  # `path` and DETAILS of rows of which the listing knows other than the gallery
    gone: Any  # rows whose files are not there
    retried: Any  # skipped images whose files are others now
    partial: Any  # tracklets of which only some frames are listed


def commit_finished(folder: Path, *, others_write: bool = False) -> None:
    """Make one generation of the shards that are whole: those of the last one, and those that a plan has made.

    others_write: other processes, or threads, are writing shards now; what they have not finished stays.
    """
    record = read_record(folder)
    manifest = read_manifest(folder, record)
    there = [shard for shard in manifest.shards if (folder / shard.name).exists()]
    new = sorted(planned(folder) - {shard.name for shard in manifest.shards})
    there += [ShardFile(folder / name, record).shard for name in new if (folder / name).exists()]
    if tuple(there) != manifest.shards or not (folder / MANIFEST).exists():
        commit(folder, there, others_write=others_write)
    elif not others_write:
        sweep(folder, manifest)


def plan(
    folder: Path, listing: Callable[..., pa.Table], source: Path, shard_size: int, *, prune: bool = False
) -> list[str]:
    """Write down which images are to be embedded, and in which shard each will be; nothing where a plan is there.

    The sentences say what else was found.
    """
    if (folder / PLAN).exists():
        return []
    gallery = Gallery(folder)
    images = listing(root=gallery.root)
    for name, values in stamps(images["path"], gallery.root).items():
        images = images.append_column(name, values)
    found = compared(gallery, images, source)
    _bring_up_to_date(gallery, found, prune)
    gallery = Gallery(folder)
    new = _new(gallery, images)
    if len(new):
        first = 1 + max((shard.number for shard in gallery.manifest.shards), default=-1)
        shard = _cut(new, shard_size, by_track=gallery.record["group"] is not None)
        with written_aside(folder / PLAN) as aside:
            pq.write_table(new.append_column("shard", pa.array(first + shard)), aside)
    return _sentences(found, prune)


def compared(gallery: Gallery, images: pa.Table, source: Path) -> Found:
    grouped = gallery.record["group"] is not None
    skipped = gallery.skipped()
    retried = _retried(skipped, images)
    known = gallery.columns("path", "frames", *DETAILS, *STAMP)
    readable = images.filter(pc.invert(pc.is_in(images["path"], _minus(skipped, retried))))
    now = tracklets(readable) if grouped else readable
    there = pc.index_in(_keys(known, grouped), _keys(now, grouped))
    now = now.take(there)  # a row each of `known`, null where it is not listed
    is_listed, exists = pc.is_valid(there), pc.is_valid(now["size"])
    differs = [_differs(known[name], now[name]) for name in STAMP]
    changed = _all(is_listed, exists, pc.is_valid(known["size"]), pc.or_(*differs))
    partial = pa.chunked_array([pa.array(np.zeros(len(known), bool))])
    if grouped:
        fewer = pc.or_(pc.less(now["frames"], known["frames"]), pc.invert(pc.is_in(known["path"], readable["path"])))
        grown = pc.not_equal(now["frames"], known["frames"])
        partial = _all(is_listed, pc.or_(grown, changed), pc.fill_null(fewer, False))
        changed = _all(is_listed, exists, pc.or_(grown, changed), pc.invert(partial))
    updated = now.select(list(DETAILS)).add_column(0, "path", known["path"])
    news = reduce(pc.or_, [pc.and_(pc.is_valid(now[name]), _differs(known[name], now[name])) for name in DETAILS])
    updated = updated.filter(_all(is_listed, news, pc.invert(changed), pc.invert(partial)))
    gone = _gone(known["path"], is_listed, exists, gallery.root, source)
    return Found(known["path"].filter(changed), updated, gone, retried, known["path"].filter(partial))


def _new(gallery: Gallery, images: pa.Table) -> pa.Table:
    """The images that neither are in the gallery nor could not be read as they are."""
    images = images.filter(pc.invert(pc.is_in(images["path"], _minus(gallery.skipped(), NO_PATHS))))
    grouped = gallery.record["group"] is not None
    known = gallery.columns("path", "camera", "track")
    return images.filter(pc.invert(pc.is_in(_keys(images, grouped), _keys(known, grouped))))


def _bring_up_to_date(gallery: Gallery, found: Found, prune: bool) -> None:
    gone = found.gone if prune else NO_PATHS
    leaving = pa.chunked_array([*found.changed.chunks, *gone.chunks], TEXT)
    if not (len(leaving) or len(found.updated) or len(found.retried)):
        return

    def edit(columns: pa.Table, skipped: list[Skipped]) -> Change | None:
        stays = np.flatnonzero(pc.invert(pc.is_in(columns["path"], leaving)))
        row = pc.index_in(columns["path"], found.updated["path"])
        left = [image for image in skipped if image.path not in retried]
        if len(stays) == len(columns) and row.null_count == len(row) and len(left) == len(skipped):
            return None
        for name in DETAILS:
            place = columns.schema.get_field_index(name)
            columns = columns.set_column(place, name, pc.coalesce(found.updated[name].take(row), columns[name]))
        return Change(stays, columns.take(pa.array(stays)), left)

    retried = set(found.retried.to_pylist())
    rewrite(gallery.folder, gallery.record, gallery.manifest, edit)


def _sentences(found: Found, prune: bool) -> list[str]:
    sentences = []
    if count := len(found.changed):
        sentences.append(f"{count} rows have files that changed or are new; they are embedded anew.")
    if count := len(found.retried):
        sentences.append(f"{count} images that could not be read changed; they are tried again.")
    if count := len(found.updated):
        sentences.append(f"{count} rows have new columns (camera, time, identity, modality or track).")
    if count := len(found.gone):
        what = "have left the gallery" if prune else "stay in the gallery (prune=true drops them)"
        sentences.append(f"{count} rows are of files that are not there any more and {what}: {_few(found.gone)}.")
    if count := len(found.partial):
        sentences.append(
            f"{count} tracklets are listed without all frames that they were made of, and stay as they are: "
            f"{_few(found.partial)}. List all their frames, or name the new frames' tracklets otherwise."
        )
    return sentences


def _few(paths: Any) -> str:
    more = len(paths) - 20
    return listed(paths.slice(0, 20).to_pylist()) + (f" and {more} more" if more > 0 else "")


def _retried(skipped: list[Skipped], images: pa.Table) -> Any:
    """The skipped images whose files are others than those that could not be read; 0.2 did not say which they were."""
    paths = pa.array([image.path for image in skipped], TEXT)
    now = images.select(["path", *STAMP]).take(pc.index_in(paths, images["path"]))
    others = [
        row["path"] is not None and [image.columns.get(name, "") for name in STAMP] != [row[name] for name in STAMP]
        for image, row in zip(skipped, now.to_pylist(), strict=True)
    ]
    return pa.chunked_array([paths.filter(pa.array(others, pa.bool_()))])


def _minus(skipped: list[Skipped], retried: Any) -> pa.Array:
    again = set(retried.to_pylist())
    return pa.array([image.path for image in skipped if image.path not in again], TEXT)


def _keys(table: pa.Table, grouped: bool) -> Any:
    """What a row is known by: its path, or its camera and track."""
    if not grouped:
        return table["path"]
    return track_keys(table["camera"], table["track"])


def _gone(paths: Any, is_listed: Any, exists: Any, root: Path, source: Path) -> Any:
    """Rows that are listed but not there, or lie below the folder that was searched and were not found there."""
    missing = pc.and_(is_listed, pc.invert(exists))
    if source.is_dir():
        below = pc.starts_with(absolute(paths, root), f"{source.absolute()}/")
        missing = pc.or_(missing, pc.and_(pc.invert(is_listed), below))
    candidates = paths.filter(missing)
    return candidates.filter(pa.array([_is_gone(root / path) for path in candidates.to_pylist()], pa.bool_()))


def _is_gone(file: Path) -> bool:
    """What cannot be looked at may be there."""
    try:
        file.stat()
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def _differs(known: Any, now: Any) -> Any:
    """Also where only one of them is known."""
    same = pc.fill_null(pc.equal(known, now), False)
    return pc.and_(pc.invert(same), pc.or_(pc.is_valid(known), pc.is_valid(now)))


def _all(*masks: Any) -> Any:
    return reduce(pc.and_, (pc.fill_null(mask, False) for mask in masks))


def _cut(images: pa.Table, size: int, *, by_track: bool) -> np.ndarray:
    """(n,) the shard of each row: as many rows as `size`, and a tracklet's frames together."""
    place = np.arange(len(images))
    if by_track:
        keys = _keys(images, True).combine_chunks()
        begins = np.append(True, pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False))
        place = np.maximum.accumulate(np.where(begins, place, 0))  # a frame's tracklet begins there
    return place // size


def write_skipped(folder: Path) -> None:
    """skipped.csv: what could not be read, for people."""
    skipped = [(image.path, image.reason) for image in Gallery(folder).skipped()]
    with written_aside(folder / SKIPPED) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "reason"), *skipped])
