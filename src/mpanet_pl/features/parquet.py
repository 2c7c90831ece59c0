"""Parquet: columns path, identity, camera, modality, and embedding as numbers, or as the bytes that `embed` writes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mpanet_pl.data.faults import Faults
from mpanet_pl.errors import UserError
from mpanet_pl.features.columns import Table, of_columns

RECORD = b"mpanet_pl"  # of `embed`, in each Parquet file's metadata


def read_parquet(place: Path, faults: Faults) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError('Parquet needs pyarrow: pip install "mpanet_pl[gallery]"') from error
    parts = []
    for file in sorted(place.glob("*.parquet")) if place.is_dir() else [place]:
        try:
            parts.append(pq.read_table(file))
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{file} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    if any(part.schema != parts[0].schema for part in parts):
        raise UserError(f"{place} holds Parquet files of several kinds: their columns or records differ.")
    table = pa.concat_tables(parts)
    if "embedding" not in table.column_names:
        raise UserError(f"{place} has no column embedding; it has {', '.join(table.column_names)}.")
    try:
        embeddings = _vectors(table["embedding"].combine_chunks(), table.schema.metadata or {})
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UserError(f"The column embedding of {place} cannot be read: {error}") from error
    columns = {name: table[name].to_pylist() for name in table.column_names if name != "embedding"}
    return of_columns(embeddings, columns, place, faults)


def _vectors(column: Any, metadata: Mapping[bytes, bytes]) -> np.ndarray:
    """(N, D) of lists of numbers, or of raw bytes whose type the record says."""
    import pyarrow as pa

    if column.null_count:
        raise ValueError(f"{column.null_count} are null")
    if pa.types.is_fixed_size_binary(column.type):
        kind = np.dtype(json.loads(metadata[RECORD])["dtype"]).newbyteorder("<")
        return np.frombuffer(b"".join(column.to_pylist()), kind).reshape(len(column), -1)
    widths = set(column.value_lengths().to_pylist()) if not pa.types.is_fixed_size_list(column.type) else set()
    if len(widths) > 1:
        raise ValueError(f"the numbers of a row are {' or '.join(map(str, sorted(widths)))}")
    values: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), -1)
