"""A table that somebody reports, beside what his own features give: where the two differ, and by how much."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.outcomes import RERANKED
from mpanet_pl.evaluation.scoring import Scores
from mpanet_pl.evaluation.tables import COLUMNS, JSON, Grid, Results, Value, score_values
from mpanet_pl.run.evaluation_inputs import saved_here
from mpanet_pl.run.finished_run import without_counts

ROUNDED = 0.005 + 1e-6  # points: a mean and a deviation are shown with two digits
INTERVAL = 0.1  # points of an interval's ends, which are drawn


class Verified(NamedTuple):
    table: Grid
    agreeing: int  # numbers
    faults: list[str]  # where they differ, in sentences


def read_reported(path: Path) -> Results:
    """A run's folder, or its results.json."""
    if path.is_file() and path.name != JSON:
        raise UserError(f"{path} is no table to verify: give a run's folder or its {JSON}.")
    return Results.read(path.parent if path.is_file() else path)


def words_for(features: Path, reported: Results, typed: list[str]) -> list[str]:
    """KEY=VALUE by which the features are measured: anyone's do not say of which dataset they are, the report does."""
    if saved_here(features):
        return typed
    named = {word.partition("=")[0] for word in typed}
    known = {key: reported.provenance.get(key) for key in ("dataset", "trial")}
    return [f"{key}={value}" for key, value in known.items() if value is not None and key not in named] + typed


def verify(row: str, scores: Mapping[str, Scores], reported: Results, result: str | None = None) -> Verified:
    """`row` is what the features are called, by which the report's result is found unless `result` says which."""
    name = _result(row, reported, result)
    lines, faults, agreeing = [], [], 0
    for setting, values in reported.scores[name].items():
        if setting not in scores:
            again = " (add rerank=…)" if RERANKED in setting else ""
            faults.append(f"{setting} is reported, and the features give no such setting{again}.")
            continue
        faults += _measured_otherwise(setting, reported.measured.get(setting, ""), scores[setting].measured)
        found = score_values(scores[setting])
        for score in COLUMNS:
            if score in values:
                wrong = list(_differing(values[score], found[score]))
                agreeing += not wrong
                faults += [f"{setting}, {COLUMNS[score]}: {fault}" for fault in wrong]
                means = values[score]["mean"], found[score]["mean"]
                lines.append([setting, COLUMNS[score], *(f"{mean:.2f}" for mean in means), "differs" if wrong else "="])
    return Verified((["setting", "score", "reported", "recomputed", ""], lines), agreeing, faults)


def _result(row: str, reported: Results, result: str | None) -> str:
    rows = list(reported.scores)
    name = result or (row if row in rows else rows[0] if len(rows) == 1 else None)
    if name not in rows:
        asked = f"no result '{result}'" if result else "several results"
        raise UserError(f"The report has {asked}: say which, --result {' or '.join(rows)}.")
    return name


def _measured_otherwise(setting: str, reported: str, found: str) -> Iterator[str]:
    reported, found = without_counts(reported), without_counts(found)
    if reported and reported != found:
        yield f"{setting} is reported as measured by: {reported}; here by: {found}."


def _differing(reported: Value, found: Value) -> Iterator[str]:
    parts: list[tuple[str, Any, Any, float]] = [
        ("mean", reported["mean"], found["mean"], ROUNDED),
        ("deviation", reported.get("std"), found["std"], ROUNDED),
    ]
    ends = zip(("lower", "upper"), reported.get("ci") or (), found["ci"] or (), strict=False)
    parts += [(f"{side} end of its interval", one, other, INTERVAL) for side, one, other in ends]
    for what, one, other, within in parts:
        if one is not None and (other is None or not abs(one - other) <= within):
            here = "none" if other is None else f"{other:.2f}"
            yield f"the {what} is reported as {one:.2f}, and the features give {here}."
