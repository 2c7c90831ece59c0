"""Copies of a run are no repeats of it: they are found by their network, or by equal outcomes, and left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from mpanet_pl.evaluation.differences import Answers

if TYPE_CHECKING:
    from mpanet_pl.run.repeats import Run


def _same_answers(one: Answers, other: Answers) -> bool:
    """Of one network, or with equal outcomes of every query."""
    asked = [[run.paths[row] for row in run.outcomes.queries.tolist()] for run in (one, other)]
    if sorted(asked[0]) != sorted(asked[1]):
        return False
    if one.network == other.network:
        return True
    orders = [torch.tensor(sorted(range(len(paths)), key=paths.__getitem__)) for paths in asked]
    columns = [run.outcomes.of(order)[2:] for run, order in zip((one, other), orders, strict=True)]
    return all(mine.shape == theirs.shape and torch.equal(mine, theirs) for mine, theirs in zip(*columns, strict=True))


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
    return bool(pairs) and all(_same_answers(one, two) for one, two in pairs)
