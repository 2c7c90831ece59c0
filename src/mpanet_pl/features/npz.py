"""`FILE.npz` of anyone's: embeddings (N, D), paths, identities, cameras, and infrared where cameras do not tell."""

from pathlib import Path

import numpy as np

from mpanet_pl.data.faults import Faults
from mpanet_pl.errors import UserError
from mpanet_pl.features.columns import Table


def read_npz(place: Path, faults: Faults) -> Table:
    needed = ("embeddings", "paths", "identities", "cameras")
    try:
        with np.load(place, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in (*needed, "infrared", "times") if name in stored.files}
    except Exception as error:  # a damaged file fails in the parser in a dozen ways
        raise UserError(f"{place} cannot be read as an .npz file: {error}") from error
    if missing := [name for name in needed if name not in columns]:
        raise UserError(f"{place} has no {', '.join(missing)}: it needs {', '.join(needed)}, and infrared.")
    for name in ("identities", "cameras"):
        if columns[name].dtype.kind not in "iuUS":
            faults.add("no whole numbers or names", [f"{name}: {columns[name].dtype}"])
    embeddings, paths, identities, cameras = (columns[name] for name in needed)
    times = columns["times"].tolist() if "times" in columns else None
    return Table(embeddings, paths.tolist(), identities, cameras, columns.get("infrared"), times)
