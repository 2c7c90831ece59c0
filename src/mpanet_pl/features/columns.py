"""A table of embeddings, as any reader found it: its columns checked and turned into a catalogue's."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.data.faults import Faults
from mpanet_pl.errors import UserError

MODALITIES = {"visible": False, "infrared": True, "thermal": True}


class Table(NamedTuple):
    """Embeddings and what a file says of each."""

    embeddings: np.ndarray  # (N, D)
    paths: Sequence[str]
    identities: Sequence[Any]
    cameras: Sequence[Any]
    infrared: Sequence[bool] | None  # None: the cameras tell
    times: Sequence[Any] | None = None  # seconds, as numbers or words; None or empty where not known


def of_columns(embeddings: np.ndarray, columns: Mapping[str, Sequence[Any]], place: Path, faults: Faults) -> Table:
    needed = ("path", "identity", "camera")
    if missing := [name for name in needed if name not in columns]:
        raise UserError(f"{place} has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}.")
    named = zip(columns["identity"], columns["path"], strict=False)
    faults.add("rows without an identity", (path for identity, path in named if identity in (None, "")))
    modalities = columns.get("modality")
    if modalities is not None and all(modalities):
        unknown = sorted(set(map(str, modalities)) - MODALITIES.keys())
        faults.add("modalities that are none of visible, infrared, thermal", unknown)
        infrared: Sequence[bool] | None = [MODALITIES.get(str(modality), False) for modality in modalities]
    else:
        infrared = None
    return Table(embeddings, columns["path"], columns["identity"], columns["camera"], infrared, columns.get("time"))


def checked(table: Table, faults: Faults) -> Tensor:
    """The embeddings as a tensor; what is wrong with the table goes into `faults`."""
    embeddings, paths = table.embeddings, table.paths
    if embeddings.ndim != 2 or embeddings.dtype.kind != "f" or 0 in embeddings.shape:
        if not faults:
            faults.add("embeddings that are no numbers (N, D)", [f"{embeddings.dtype} {embeddings.shape}"])
        return torch.empty(0)
    for name, column in table._asdict().items():
        if column is not None and len(column) != len(embeddings):
            faults.add("columns of another length", [f"{len(column)} {name} for {len(embeddings)} embeddings"])
    faults.add("images that are there twice", (path for path, count in Counter(paths).items() if count > 1))
    faults.add("times that are no seconds", _without_seconds(table))
    finite = np.isfinite(embeddings).all(axis=1)
    faults.add("not finite", (paths[row] for row in np.flatnonzero(~finite).tolist() if row < len(paths)))
    return torch.from_numpy(np.ascontiguousarray(embeddings.astype(embeddings.dtype.newbyteorder("="))))


def catalogue_of(table: Table, infrared_cameras: Collection[int], place: Path) -> Catalogue:
    infrared = np.asarray(table.infrared if table.infrared is not None else _of_cameras(table, infrared_cameras, place))
    return Catalogue(
        tuple(map(str, table.paths)),
        torch.from_numpy(_numbers(table.identities)),
        torch.from_numpy(_numbers(table.cameras)),
        torch.from_numpy(infrared.astype(bool)),
        None if table.times is None else torch.tensor([_seconds(time) for time in table.times], dtype=torch.float64),
    )


def _without_seconds(table: Table) -> Iterator[str]:
    for path, time in zip(table.paths, table.times or (), strict=False):
        try:
            _seconds(time)
        except (TypeError, ValueError):
            yield f"{path}: {time}"


def _seconds(time: Any) -> float:
    return nan if time in (None, "") else float(time)


def _of_cameras(table: Table, infrared_cameras: Collection[int], place: Path) -> np.ndarray:
    if not infrared_cameras:
        raise UserError(f"{place} does not say which images are infrared: it needs a column modality, or infrared.")
    return np.isin(_numbers(table.cameras), list(infrared_cameras))


def _numbers(names: Sequence[Any]) -> np.ndarray:
    """(N,) int64: whole numbers as they are; names counted from 1, in their order; 0 for nothing."""
    column = np.asarray(names)
    if column.dtype.kind in "iu":
        return column.astype(np.int64)
    texts = ["" if name is None else str(name).strip() for name in column.tolist()]
    known = sorted(set(texts) - {""})
    numbered = all(map(str.isdecimal, known))
    number = {text: int(text) if numbered else place for place, text in enumerate(known, 1)}
    return np.array([number.get(text, 0) for text in texts], dtype=np.int64)
