"""The right to be forgotten: rows leave a gallery, shard by shard, and no copy of them stays in it.

What other places hold (`Copy`) owes it from before the first row goes until it is paid, whoever is killed meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.copies import copies_of, write_copies
from mpanet_pl.gallery.embedding import write_skipped
from mpanet_pl.gallery.generations import PLAN, Change, rewrite
from mpanet_pl.gallery.listing import number_or_name
from mpanet_pl.gallery.shards import TEXT, Skipped, completed
from mpanet_pl.gallery.store import Gallery
from mpanet_pl.system.files import alone_in

NAMED = ("identity", "track", "camera", "path")


def forget(
    folder: str | Path,
    *,
    identity: Sequence[str] = (),
    track: Sequence[str] = (),
    camera: Sequence[str] = (),
    path: Sequence[str] = (),
    before: float | None = None,
) -> int:
    """Remove the rows for which all that is given holds, `before` being seconds; how many they were.

    Copies owe it from then on.
    """
    place = Path(folder).expanduser()
    asked = whom(identity=identity, track=track, camera=camera, path=path, before=before)
    with alone_in(place):
        if (place / PLAN).exists():
            raise UserError(f"{place} is not finished: run embed again first.")
        gallery = Gallery(place)
        if copies := copies_of(place):
            write_copies(place, [copy._replace(owed=[*copy.owed, asked]) for copy in copies])

        def edit(columns: pa.Table, skipped: list[Skipped]) -> Change | None:
            gone = _gone(columns, asked)
            left = [image for image, away in zip(skipped, _gone(_as_rows(skipped), asked), strict=True) if not away]
            if not gone.any() and len(left) == len(skipped):
                return None
            stays = np.flatnonzero(~gone)
            return Change(stays, columns.take(pa.array(stays)), left)

        rewrite(place, gallery.record, gallery.manifest, edit)
        write_skipped(place)
        return len(gallery) - len(Gallery(place))


def whom(*, before: float | None = None, **named: Sequence[str]) -> dict[str, Any]:
    """What was asked for and nothing else, cameras and identities as galleries have them."""
    asked: dict[str, Any] = {name: [str(value) for value in named[name]] for name in NAMED if named.get(name)}
    for name in asked.keys() & {"camera", "identity"}:
        asked[name] = [number_or_name(text) for text in asked[name]]
    if before is not None:
        asked["before"] = float(before)
    if not asked:
        raise UserError(f"Say whom to forget: {', '.join(NAMED)} or before.")
    return asked


def _as_rows(skipped: Sequence[Skipped]) -> pa.Table:
    names = ("path", "camera", "time", "identity", "track")
    rows = [{**image.columns, "path": image.path} for image in skipped]
    return completed(pa.table({name: pa.array([row.get(name) for row in rows]) for name in names}), names)


def _gone(columns: pa.Table, asked: Mapping[str, Any]) -> np.ndarray:
    """(n,) of a shard."""
    masks = [pc.is_in(columns[name], pa.array(asked[name], TEXT)) for name in NAMED if name in asked]
    if "before" in asked:
        masks.append(pc.less(columns["time"], asked["before"]))
    return np.logical_and.reduce([pc.fill_null(mask, False).to_numpy() for mask in masks])
