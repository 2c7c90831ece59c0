"""The right to be forgotten: rows leave a gallery, shard by shard, and no copy of them stays in it.

What other places hold (`Copy`) owes it from before the first row goes until it is paid, whoever is killed meanwhile.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mpanet_pl.data.faults import listed
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.answers import CALENDAR
from mpanet_pl.gallery.copies import answers_naming, copies_of, write_copies
from mpanet_pl.gallery.generations import PLAN, Change, rewrite, sweep
from mpanet_pl.gallery.image_table import number_or_name
from mpanet_pl.gallery.planning import write_skipped
from mpanet_pl.gallery.shards import TEXT, Skipped, completed
from mpanet_pl.gallery.store import Gallery
from mpanet_pl.system.files import alone_in

NAMED = ("identity", "track", "camera", "path")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
COMPARED = 100_000  # names among which the nearest are looked for


class Forgotten(NamedTuple):
    """What a request did, for whoever has to answer for it."""

    asked: Mapping[str, Any]
    rows: int
    skipped: int  # of skipped.csv
    paths: tuple[str, ...]
    vectors: np.ndarray  # (rows, D) that are searched for elsewhere
    left: int  # shards that a killed process had left, removed now
    answers: tuple[Path, ...]  # folders of answers that show them
    remarks: tuple[str, ...]

    def report(self, gallery: Gallery) -> str:
        asked = ", ".join(f"{name}={value}" for name, value in self.asked.items())
        lines = [
            f"Forgotten on {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC from {gallery.folder.absolute()}",
            f"Asked for: {asked}",
            f"Rows removed: {self.rows}; lines of skipped.csv removed: {self.skipped}; rows left: {len(gallery)}",
            f"The gallery's generation is now {gallery.generation}.",
            *self.remarks,
        ]
        if self.left:
            lines.append(f"{self.left} shards that an interrupted command had left were removed.")
        lines += [f"Still shows them, and is yours to remove: {out}" for out in self.answers]
        there = [path for path in self.paths if os.path.exists(gallery.root / path)]
        if there:
            lines.append(f"{len(there)} of their image files still lie in {gallery.root}: embed would take them again.")
        return "\n".join(lines)


def forget(
    folder: str | Path,
    *,
    identity: Sequence[str] = (),
    track: Sequence[str] = (),
    camera: Sequence[str] = (),
    path: Sequence[str] = (),
    before: float | None = None,
) -> Forgotten:
    """Remove the rows for which all that is given holds, `before` being seconds. Copies owe it from then on.

    A request that no row fits is refused, with the nearest names that there are.
    """
    place = Path(folder).expanduser()
    asked = whom(identity=identity, track=track, camera=camera, path=path, before=before)
    with alone_in(place):
        if (place / PLAN).exists():
            raise UserError(f"{place} is not finished: run embed again first.")
        gallery = Gallery(place)
        if "path" in asked:
            asked["path"] = [_within(gallery.root, name) for name in asked["path"]]
        left = sweep(place, gallery.manifest)
        rows, vectors = _matching(gallery, asked)
        skipped = gallery.skipped()
        lost = int(_gone(_as_rows(skipped), asked).sum())
        if not (len(rows) or lost or left):
            raise UserError(_nobody(gallery, asked))
        remarks = tuple(_remarks(gallery, asked, rows))
        if copies := copies_of(place):
            write_copies(place, [copy._replace(owed=[*copy.owed, asked]) for copy in copies])
        rewrite(place, gallery.record, gallery.manifest, lambda columns, images: _without(columns, images, asked))
        write_skipped(place)
        paths = tuple(rows["path"].to_pylist())
        answers = tuple(answers_naming(place, paths))
        return Forgotten(asked, len(rows), lost, paths, vectors, left, answers, remarks)


def whom(*, before: float | None = None, **named: Sequence[str]) -> dict[str, Any]:
    """What was asked for and nothing else, cameras and identities as galleries have them."""
    asked: dict[str, Any] = {name: [str(value) for value in named[name]] for name in NAMED if named.get(name)}
    for name in asked.keys() & {"camera", "identity"}:
        asked[name] = [number_or_name(text) for text in asked[name]]
    if before is not None:
        asked["before"] = float(before)
    if not asked:
        raise UserError(f"Say whom to forget: {', '.join(NAMED)}, before, older_than, path_list or like.")
    return asked


def moment(gallery: Gallery, age: str) -> float:
    """The time before which rows are older than `30d`, in seconds since 1970; a gallery's times have to be dates."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", age)
    if not found:
        raise UserError(f"older_than is a number and a unit (s, m, h, d or w), such as 30d, got {age}.")
    latest = pc.max(gallery.columns("time")["time"]).as_py()
    if latest is None or latest < CALENDAR:
        raise UserError(f"{gallery.folder} does not know when its images were taken: its times are no dates.")
    return time.time() - float(found[1]) * UNITS[found[2]]


def _within(root: Path, name: str) -> str:
    """A path as the gallery has it: `./a.jpg` and the whole path of a file below its root are `a.jpg`."""
    normal = os.path.normpath(name)
    return os.path.relpath(normal, root) if normal.startswith(f"{root}/") else normal


def _matching(gallery: Gallery, asked: Mapping[str, Any]) -> tuple[pa.Table, np.ndarray]:
    """The rows that leave: their names, and their vectors (n, D)."""
    rows = gallery.columns(*NAMED, "time")
    gone = _gone(rows, asked)
    return rows.filter(pa.array(gone)), gallery.vectors(np.flatnonzero(gone))


def _without(columns: pa.Table, skipped: list[Skipped], asked: Mapping[str, Any]) -> Change | None:
    gone = _gone(columns, asked)
    left = [image for image, away in zip(skipped, _gone(_as_rows(skipped), asked), strict=True) if not away]
    if not gone.any() and len(left) == len(skipped):
        return None
    stays = np.flatnonzero(~gone)
    return Change(stays, columns.take(pa.array(stays)), left)


def _as_rows(skipped: Sequence[Skipped]) -> pa.Table:
    names = (*NAMED, "time")
    rows = [{**image.columns, "path": image.path} for image in skipped]
    return completed(pa.table({name: pa.array([row.get(name) for row in rows]) for name in names}), names)


def _gone(columns: pa.Table, asked: Mapping[str, Any]) -> np.ndarray:
    """(n,) of a shard."""
    masks = [pc.is_in(columns[name], pa.array(asked[name], TEXT)) for name in NAMED if name in asked]
    if "before" in asked:
        masks.append(pc.less(columns["time"], asked["before"]))
    return np.logical_and.reduce([pc.fill_null(mask, False).to_numpy() for mask in masks])


def _nobody(gallery: Gallery, asked: Mapping[str, Any]) -> str:
    told = [f"No row of {gallery.folder} is as asked for, and nothing was removed."]
    for name in (name for name in NAMED if name in asked):
        there = gallery.columns(name)[name].unique().drop_null()
        missing = [value for value in asked[name] if not pc.is_in(pa.scalar(value, TEXT), there).as_py()]
        for value in missing[:5]:
            near = get_close_matches(value, there.slice(0, COMPARED).to_pylist(), cutoff=0.5)
            told.append(f"There is no {name} {value}" + (f"; near it: {', '.join(near)}." if near else "."))
    return " ".join(told)


def _remarks(gallery: Gallery, asked: Mapping[str, Any], rows: pa.Table) -> list[str]:
    told = []
    for name in (name for name in NAMED if name in asked):
        found = set(rows[name].to_pylist())
        if missing := [value for value in asked[name] if value not in found]:
            told.append(f"No row had {name} {listed(missing)}.")
    if "before" in asked and (unknown := gallery.columns("time")["time"].null_count):
        told.append(f"{unknown} rows have no time and stay.")
    cameras = sorted(set(rows["camera"].drop_null().to_pylist()))
    if "track" in asked and len(cameras) > 1:
        told.append(f"The tracks were of several cameras: {listed(cameras)}.")
    if linked := [shard for shard in gallery.shards if shard.exists() and shard.stat().st_nlink > 1]:
        told.append(f"{len(linked)} shards have a second name on this disk (a hard link): a copy may hold them.")
    return told
