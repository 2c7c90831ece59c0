"""`FILE.npy` (N, D) beside `FILE.csv`: a row `path,identity,camera,modality` for each embedding."""

import csv
from pathlib import Path

import numpy as np

from mpanet_pl.data.faults import Faults, listed
from mpanet_pl.errors import UserError
from mpanet_pl.features.columns import Table, of_columns


def read_npy(place: Path, faults: Faults) -> Table:
    arrays = sorted(place.glob("*.npy")) if place.is_dir() else [place]
    if len(arrays) > 1:
        raise UserError(f"{place} holds several .npy files, {listed(file.name for file in arrays)}: name one.")
    (file,) = arrays
    words = file.with_suffix(".csv")
    if not words.is_file():
        raise UserError(f"{file} needs {words.name} beside it, with the columns path, identity, camera, modality.")
    try:
        embeddings = np.load(file, allow_pickle=False)
        with words.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file} and {words.name} cannot be read: {error}") from error
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else {}) if name}
    return of_columns(embeddings, columns, words, faults)
