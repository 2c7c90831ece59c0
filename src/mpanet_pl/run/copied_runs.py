"""Copies of a run are no repeats of it: they are found by their network, or by equal outcomes, and left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpanet_pl.evaluation.pairing import same_answers

if TYPE_CHECKING:
    from mpanet_pl.run.repeats import Run


def without_copies(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Each run once, and a sentence for each copy that is left out."""
    kept: list[Run] = []
    said = []
    for run in runs:
        original = next((other for other in kept if is_copy(run, other)), None)
        if original is None:
            kept.append(run)
        else:
            said.append(f"{run.folder} is a copy of {original.folder} (one network, or equal outcomes): not counted")
    return kept, said


def is_copy(run: Run, other: Run) -> bool:
    """Whether each row is of the same network, or has equal outcomes, over the same queries."""
    pairs = [
        (answers, other.answers[row][setting])
        for row, settings in run.answers.items()
        for setting, answers in settings.items()
        if setting in other.answers.get(row, {})
    ]
    return bool(pairs) and all(same_answers(one, two) for one, two in pairs)
