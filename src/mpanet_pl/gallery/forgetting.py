"""The right to be forgotten: rows leave a gallery, shard by shard, and no copy of them stays in it.

What other places hold (`Copy`) owes it from before the first row goes until it is paid, whoever is killed meanwhile.
"""

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
import torch

from mpanet_pl.data.faults import listed
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.answer_files import CALENDAR
from mpanet_pl.gallery.copies import Copy, answers_naming, copies_of, write_copies
from mpanet_pl.gallery.generations import PLAN, Change, rewrite, sweep
from mpanet_pl.gallery.image_table import lines_of, number_or_name
from mpanet_pl.gallery.known import limit_of
from mpanet_pl.gallery.planning import write_skipped
from mpanet_pl.gallery.searching import open_queries
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
    asked = criteria_of(identity=identity, track=track, camera=camera, path=path, before=before)
    with alone_in(place):
        if (place / PLAN).exists():
            raise UserError(f"{place} is not finished: run embed again first.")
        gallery = Gallery(place)
        if "path" in asked:
            asked["path"] = [_relative_to(gallery.root, name) for name in asked["path"]]
        left = sweep(place, gallery.manifest)
        rows, vectors = _matching(gallery, asked)
        skipped = gallery.skipped()
        lost = int(_gone(_as_rows(skipped), asked).sum())
        if not (len(rows) or lost or left):
            raise UserError(_no_match(gallery, asked))
        remarks = tuple(_remarks(gallery, asked, rows))
        if copies := copies_of(place):
            write_copies(place, [copy._replace(owed=[*copy.owed, asked]) for copy in copies])
        rewrite(place, gallery.record, gallery.manifest, lambda columns, images: _without(columns, images, asked))
        write_skipped(place)
        paths = tuple(rows["path"].to_pylist())
        answers = tuple(answers_naming(place, paths))
        return Forgotten(asked, len(rows), lost, paths, vectors, left, answers, remarks)


def criteria_of(*, before: float | None = None, **named: Sequence[str]) -> dict[str, Any]:
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


def _relative_to(root: Path, name: str) -> str:
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


def _no_match(gallery: Gallery, asked: Mapping[str, Any]) -> str:
    sentences = [f"No row of {gallery.folder} is as asked for, and nothing was removed."]
    for name in (name for name in NAMED if name in asked):
        there = gallery.columns(name)[name].unique().drop_null()
        missing = [value for value in asked[name] if not pc.is_in(pa.scalar(value, TEXT), there).as_py()]
        for value in missing[:5]:
            near = get_close_matches(value, there.slice(0, COMPARED).to_pylist(), cutoff=0.5)
            sentences.append(f"There is no {name} {value}" + (f"; near it: {', '.join(near)}." if near else "."))
    return " ".join(sentences)


def _remarks(gallery: Gallery, asked: Mapping[str, Any], rows: pa.Table) -> list[str]:
    remarks = []
    for name in (name for name in NAMED if name in asked):
        found = set(rows[name].to_pylist())
        if missing := [value for value in asked[name] if value not in found]:
            remarks.append(f"No row had {name} {listed(missing)}.")
    if "before" in asked and (unknown := gallery.columns("time")["time"].null_count):
        remarks.append(f"{unknown} rows have no time and stay.")
    cameras = sorted(set(rows["camera"].drop_null().to_pylist()))
    if "track" in asked and len(cameras) > 1:
        remarks.append(f"The tracks were of several cameras: {listed(cameras)}.")
    if linked := [shard for shard in gallery.shards if shard.exists() and shard.stat().st_nlink > 1]:
        remarks.append(f"{len(linked)} shards have a second name on this disk (a hard link): a copy may hold them.")
    return remarks


def criteria_from(gallery: Gallery, cfg: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `forget` that the command's keys mean."""
    asked: dict[str, Any] = {name: list(cfg[name]) for name in NAMED}
    if cfg["path_list"] is not None:
        asked["path"] += lines_of(Path(cfg["path_list"]))
    if cfg["older_than"] is not None and cfg["before"] is not None:
        raise UserError("Give before or older_than, not both.")
    asked["before"] = cfg["before"] if cfg["older_than"] is None else moment(gallery, str(cfg["older_than"]))
    if cfg["like"] is not None:
        limit = limit_of(gallery, cfg["threshold"])
        if limit is None:
            raise UserError(f"{gallery.folder} has no threshold of its own: say from which cosine on, threshold=0.7.")
        with open_queries(gallery, cfg["like"], ckpt=cfg["ckpt"], device=cfg["device"], trust=cfg["trust"]) as queries:
            found = resembling(gallery, queries.vectors, limit)
        if not found:
            raise UserError(f"No row of {gallery.folder} reaches a cosine of {limit:.3f} with {cfg['like']}.")
        asked["path"] += found
    return asked


def resembling(gallery: Gallery, vectors: torch.Tensor, limit: float) -> list[str]:
    """The rows whose cosine with one of these vectors (Q, D) is at least `limit`."""
    found: list[str] = []
    for block in gallery.blocks(("path",)):
        near = (torch.from_numpy(block.vectors).float() @ vectors.T).amax(1) >= limit
        found += block.columns.filter(near.numpy())["path"].to_pylist()
    return found


def forget_in_copies(folder: Path, cfg: Mapping[str, Any], done: Forgotten | None) -> tuple[list[str], list[str]]:
    """What copies were made to forget, and which still hold the people: a sentence each.

    Only what this user filled on this machine, or names now, is connected to.
    """
    copies = copies_of(folder)
    if not copies and cfg["uri"] is None:
        return [], []
    from mpanet_pl.gallery.milvus import bring_up_to_date, copy_at, drop_holding, still_in

    named = None if cfg["uri"] is None else copy_at(cfg["uri"], cfg["collection"], cfg["index"])
    gallery = Gallery(folder)
    mine = [copy for copy in copies if copy.is_of(folder) and copy.owed and _may_connect(copy, named)]
    faults = bring_up_to_date(gallery, mine, token=cfg["uri_token"])
    cleared = [f"{copy.uri} holds them no more." for copy in mine if copy.uri not in faults]
    failed = [f"{uri} still holds them: {reason}." for uri, reason in faults.items()]
    failed += [
        f"{copy.uri} still holds them: this gallery's copies.json names it, but it was not filled by you on this "
        f"machine, so nothing was sent there; with uri={copy.uri} it forgets them."
        for copy in copies
        if copy.is_of(folder) and copy.owed and not _may_connect(copy, named)
    ]
    if done is None:
        return cleared, failed
    if named is not None and named.where not in [copy.where for copy in copies]:
        dropped = drop_holding(named, done.paths, token=cfg["uri_token"])
        cleared += [
            f"{named.uri}: the collection {name} held them and is gone; its gallery fills it anew." for name in dropped
        ]
        mine.append(named)
    for copy in mine:
        if copy.uri not in faults and (files := still_in(copy.uri, done.vectors)):
            failed.append(f"{copy.uri} still holds them: their vectors stand in {', '.join(map(str, files))}.")
    return cleared, failed


def _may_connect(copy: Copy, named: Copy | None) -> bool:
    return copy.own or (named is not None and copy.where == named.where)
