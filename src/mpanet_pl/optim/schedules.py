"""Schedules by name, or the user's own: what a learning rate is multiplied by, as a function of how far a run is.

Each is a function of the epoch or the step alone, so that a resumed run goes on where it was.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

from mpanet_pl.errors import UserError
from mpanet_pl.system.targets import TARGET, build


class Span(NamedTuple):
    """How long a run is; asked for once it has begun, because its loaders are not to be made before."""

    epochs: Callable[[], float]
    steps: Callable[[], float]  # of the optimiser


def _steps(optimizer: Optimizer, span: Span, milestones: Sequence[int], gamma: float = 0.1, warmup: int = 0) -> Any:
    """Times `gamma` at the end of each epoch of `milestones`; before, linearly up over the first `warmup` epochs."""
    _check("gamma", gamma, 0 <= gamma < math.inf, "0 or more")
    _check("warmup", warmup, warmup >= 0, "a number of epochs")
    for milestone in milestones:
        _check("milestones", milestone, isinstance(milestone, int) and milestone >= 0, "a list of epochs")
    if not warmup:
        return MultiStepLR(optimizer, list(milestones), gamma), "epoch"
    passed = sorted(milestones)

    def factor(epoch: int) -> float:
        return min((epoch + 1) / warmup, 1.0) * gamma ** bisect.bisect_right(passed, epoch)

    return LambdaLR(optimizer, factor), "epoch"


def _cosine(optimizer: Optimizer, span: Span, warmup: int = 0, end: float = 0.0) -> Any:
    """Linearly up over the first `warmup` epochs, then down half a cosine to `end` in the last."""
    _check("warmup", warmup, warmup >= 0, "a number of epochs")
    _check("end", end, 0 <= end <= 1, "a share of the learning rate")

    def factor(epoch: int) -> float:
        if epoch < warmup:
            return (epoch + 1) / (warmup + 1)
        return half_cosine((epoch - warmup) / max(span.epochs() - 1 - warmup, 1), end) if epoch > warmup else 1.0

    return LambdaLR(optimizer, factor), "epoch"


def _onecycle(optimizer: Optimizer, span: Span, warmup: float = 0.1, start: float = 0.05, end: float = 0.01) -> Any:
    """Step by step: linearly up from `start` over the share `warmup` of the run, then down half a cosine to `end`."""
    for name, share in (("warmup", warmup), ("start", start), ("end", end)):
        _check(name, share, 0 <= share <= 1, "a share, 0 to 1")

    def factor(step: int) -> float:
        progress = min(step / span.steps(), 1.0) if step else 0.0
        if progress < warmup:
            return start + (1 - start) * progress / warmup
        return half_cosine((progress - warmup) / (1 - warmup), end) if warmup < 1 else 1.0

    return LambdaLR(optimizer, factor), "step"


SCHEDULES: dict[str, Callable[..., tuple[LRScheduler, str]]] = {
    "steps": _steps,
    "cosine": _cosine,
    "onecycle": _onecycle,
}


def half_cosine(progress: float, end: float) -> float:
    """From 1 at 0 to `end` at 1.

    >>> [round(half_cosine(progress, 0.01), 3) for progress in (0, 0.5, 1)]
    [1.0, 0.505, 0.01]
    """
    return end + (1 - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def build_schedule(optimizer: Optimizer, settings: Mapping[str, Any], span: Span) -> dict[str, Any]:
    """What Lightning calls a scheduler's configuration.

    `settings` hold `name` (steps, cosine or onecycle; steps unless given) and its keywords: see these functions. Or
    `_target_` with keywords of its own, and `interval` ("epoch" or "step") for how often it moves. None leaves a
    keyword out.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    if TARGET in given:
        interval = given.pop("interval", "epoch")
        _check("interval", interval, interval in ("epoch", "step"), "epoch or step")
        schedule = build(given, "model.schedule", optimizer)
        if not isinstance(schedule, LRScheduler):
            raise UserError(f"model.schedule: {given[TARGET]} is no torch.optim.lr_scheduler.LRScheduler.")
    else:
        name = given.pop("name", "steps")
        if name not in SCHEDULES:
            raise UserError(f"model.schedule.name is one of {', '.join(SCHEDULES)}, got {name}.")
        try:
            schedule, interval = SCHEDULES[name](optimizer, span, **given)
        except (TypeError, ValueError) as error:
            raise UserError(f"model.schedule is refused: {str(error).replace('()', '', 1).lstrip('_')}") from error
    return {"scheduler": schedule, "interval": interval}


def _check(name: str, value: Any, fits: bool, expected: str) -> None:
    if not fits:
        raise UserError(f"model.schedule.{name} is {expected}, got {value}.")
