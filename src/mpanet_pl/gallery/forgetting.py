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
import pyarrow.parquet as pq

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.embedding import PLAN
from mpanet_pl.gallery.store import Gallery, copies_of, write_copies, write_table
from mpanet_pl.system.files import alone_in, sweep_up

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
    count = 0
    with alone_in(place):
        if (place / PLAN).exists():
            raise UserError(f"{place} is not finished: run embed again first.")
        gallery = Gallery(place)
        sweep_up(place)
        if copies := copies_of(place):
            write_copies(place, [copy._replace(owed=[*copy.owed, asked]) for copy in copies])
        width = gallery.dimension * np.dtype(gallery.record["dtype"]).itemsize
        for shard in gallery.shards:
            gone = _gone(pq.read_table(shard, columns=[*NAMED, "time"]), asked)
            if gone.any():
                write_table(shard, pq.read_table(shard).filter(pa.array(~gone)), width)
                count += int(gone.sum())
    return count


def whom(*, before: float | None = None, **named: Sequence[str]) -> dict[str, Any]:
    """What was asked for and nothing else, cameras and identities as galleries have them."""
    asked: dict[str, Any] = {name: [str(value) for value in named[name]] for name in NAMED if named.get(name)}
    for name in asked.keys() & {"camera", "identity"}:
        asked[name] = [str(int(text)) if text.isdecimal() else text for text in asked[name]]
    if before is not None:
        asked["before"] = float(before)
    if not asked:
        raise UserError(f"Say whom to forget: {', '.join(NAMED)} or before.")
    return asked


def _gone(columns: pa.Table, asked: Mapping[str, Any]) -> np.ndarray:
    """(n,) of a shard."""
    masks = [pc.is_in(columns[name], pa.array(asked[name], pa.string())) for name in NAMED if name in asked]
    if "before" in asked:
        masks.append(pc.less(columns["time"], asked["before"]))
    return np.logical_and.reduce([pc.fill_null(mask, False).to_numpy() for mask in masks])
