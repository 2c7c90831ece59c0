"""Known or unknown: whether who answers is similar enough to be the one who was searched for.

A run leaves a threshold of cosines in its results (docs/open_set.md); a gallery keeps it in cosines of its own vectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mpanet_pl.evaluation.tables import JSON, Results
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.store import Gallery

AUTO = "auto"
LAST = "checkpoints/last.ckpt"  # in a run's folder


def threshold_of(embedder: Embedder) -> dict[str, Any] | None:
    """What the run of the embedder's checkpoint left; None where it left none for these embeddings."""
    ckpt = Path(embedder.origin.path)
    run = ckpt.parent.parent
    if embedder.flip or ckpt != run / LAST or not (run / JSON).exists():
        return None
    left = Results.read(run).threshold
    value = left.get("value") if isinstance(left, Mapping) else None
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    if embedder.projection:
        value = embedder.projection.translated(value)
    told = {key: left.get(key) for key in ("false_alarm_rate", "calibrated_on")}
    return None if value is None else {"value": value, **told}


def limit_of(gallery: Gallery, asked: float | str | None) -> float | None:
    """From which cosine on an answer is known: `auto` is the gallery's own, None where nobody says."""
    if asked != AUTO:
        return None if asked is None else float(asked)
    own = gallery.record.get("threshold")
    return float(own["value"]) if own else None


def said(gallery: Gallery, limit: float | None) -> str:
    """
    >>> from types import SimpleNamespace
    >>> own = {"value": 0.8, "false_alarm_rate": 0.05, "calibrated_on": "test people"}
    >>> gallery = SimpleNamespace(record={"threshold": own})
    >>> said(gallery, 0.8), said(gallery, 0.9), said(gallery, None)
    ('known from a cosine of 0.800 (5 % false alarms, calibrated on test people)', 'known from a cosine of 0.900', '')
    """
    if limit is None:
        return ""
    own = gallery.record.get("threshold") or {}
    promise = (
        f" ({100 * own['false_alarm_rate']:.0f} % false alarms, calibrated on {own['calibrated_on']})"
        if own.get("value") == limit
        else ""
    )
    return f"known from a cosine of {limit:.3f}{promise}"


def with_known(table: pa.Table, limit: float | None) -> pa.Table:
    """Answers with a column `known`, null where there is no threshold."""
    known = pa.nulls(len(table), pa.bool_()) if limit is None else pc.greater_equal(table["score"], limit)
    return table.add_column(3, "known", known)
