"""The right to be forgotten: rows leave a gallery, shard by shard, and no copy of them stays in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.embedding import TODO
from mpanet_pl.gallery.store import Gallery, write_table
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
    """Remove the rows for which all that is given holds, `before` being seconds; how many they were."""
    place = Path(folder).expanduser()
    asked = dict(zip(NAMED, (identity, track, camera, path), strict=True))
    asked = {name: [_number_or_name(value) for value in values] for name, values in asked.items() if values}
    if not asked and before is None:
        raise UserError(f"Say whom to forget: {', '.join(NAMED)} or before.")
    count = 0
    with alone_in(place):
        if (place / TODO).exists():
            raise UserError(f"{place} is not finished: run embed again first.")
        gallery = Gallery(place)
        sweep_up(place)
        width = gallery.dimension * np.dtype(gallery.record["dtype"]).itemsize
        for shard in gallery.shards:
            gone = _gone(pq.read_table(shard, columns=[*NAMED, "time"]), asked, before)
            if gone.any():
                write_table(shard, pq.read_table(shard).filter(pa.array(~gone)), width)
                count += int(gone.sum())
    return count


def _gone(columns: pa.Table, asked: Mapping[str, Sequence[str]], before: float | None) -> np.ndarray:
    """(n,) of a shard."""
    masks = [pc.is_in(columns[name], pa.array(values, pa.string())) for name, values in asked.items()]
    if before is not None:
        masks.append(pc.less(columns["time"], before))
    return np.logical_and.reduce([pc.fill_null(mask, False).to_numpy() for mask in masks])


def _number_or_name(value: object) -> str:
    text = str(value)
    return str(int(text)) if text.isdecimal() else text
