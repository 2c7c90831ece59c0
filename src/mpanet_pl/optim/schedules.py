"""Schedules by name, or the user's own: what a learning rate is multiplied by, as a function of how far a run is.

Each is a function of the epoch or the step alone, so that a resumed run goes on where it was.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR, ReduceLROnPlateau

from mpanet_pl.errors import UserError
from mpanet_pl.system.hints import Part, Range
from mpanet_pl.system.ranges import Count, Share, Whole, keys_of, number, read_all
from mpanet_pl.system.targets import TARGET, build

Factor = Annotated[float, number(most=1, above=0)]


class Span(NamedTuple):
    """How long a run is; asked for once it has begun, because its loaders are not to be made before."""

    epochs: Callable[[], float]
    steps: Callable[[], float]  # of the optimiser

    @classmethod
    def of(cls, trainer: Callable[[], Any]) -> Span:
        return cls(
            epochs=lambda: _finite(trainer().max_epochs or -1),
            steps=lambda: _finite(trainer().estimated_stepping_batches),
        )


def _finite(length: float) -> float:
    if not 0 < length < math.inf:
        raise UserError("A schedule over the whole run needs to know its length: set trainer.max_epochs.")
    return length


class Curve(LambdaLR):
    """Rates that are a function of the epoch or the step; a run that is resumed to be longer is on its own curve at
    once, where the rate that was stored is the shorter run's."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        factors = [factor(self.last_epoch) for factor in self.lr_lambdas]
        self._last_lr = [base * factor for base, factor in zip(self.base_lrs, factors, strict=True)]
        for group, rate in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = rate


def _none(optimizer: Optimizer, span: Span) -> Any:
    """The optimiser's own rate, from the first step to the last."""
    return Curve(optimizer, lambda _: 1.0), {"interval": "epoch"}


def _plateau(
    optimizer: Optimizer,
    span: Span,
    monitor: str | None = None,
    frequency: Count = 1,
    mode: Literal["max", "min"] = "max",
    gamma: Annotated[float, Range("at least 0 and below 1", lambda gamma: 0 <= gamma < 1)] = 0.1,
    patience: Whole = 10,
) -> Any:
    """Times `gamma` once `monitor`, a logged value, got no better in more than `patience` looks.

    It looks each `frequency` epochs. A score is there once it is validated: `frequency` is the period of validation,
    trainer.check_val_every_n_epoch, or a multiple.
    """
    return ReduceLROnPlateau(optimizer, mode, gamma, patience), _watched(monitor, frequency)


def _watched(monitor: Any, frequency: Any) -> dict[str, Any]:
    _check("monitor", monitor, isinstance(monitor, str) and bool(monitor), "a logged value, such as val/all/single/r1")
    _check("frequency", frequency, isinstance(frequency, int) and frequency >= 1, "a number of epochs")
    return {"interval": "epoch", "monitor": monitor, "frequency": frequency}


def _steps(
    optimizer: Optimizer, span: Span, milestones: Sequence[Count], gamma: Factor = 0.1, warmup: Whole = 0
) -> Any:
    """Times `gamma` at the end of each epoch of `milestones`; before, linearly up over the first `warmup` epochs."""
    if not warmup:
        return MultiStepLR(optimizer, list(milestones), gamma), {"interval": "epoch"}
    passed = sorted(milestones)

    def factor(epoch: int) -> float:
        return min((epoch + 1) / warmup, 1.0) * gamma ** bisect.bisect_right(passed, epoch)

    return Curve(optimizer, factor), {"interval": "epoch"}


def _cosine(optimizer: Optimizer, span: Span, warmup: Whole = 0, end: Share = 0.0) -> Any:
    """Linearly up over the first `warmup` epochs, then down half a cosine to `end` in the last."""

    def factor(epoch: int) -> float:
        if epoch < warmup:
            return (epoch + 1) / (warmup + 1)
        return half_cosine((epoch - warmup) / max(span.epochs() - 1 - warmup, 1), end) if epoch > warmup else 1.0

    return Curve(optimizer, factor), {"interval": "epoch"}


def _onecycle(optimizer: Optimizer, span: Span, warmup: Share = 0.1, start: Share = 0.05, end: Share = 0.01) -> Any:
    """Step by step: linearly up from `start` over the share `warmup` of the run, then down half a cosine to `end`."""

    def factor(step: int) -> float:
        progress = min(step / span.steps(), 1.0) if step else 0.0
        if progress < warmup:
            return start + (1 - start) * progress / warmup
        return half_cosine((progress - warmup) / (1 - warmup), end) if warmup < 1 else 1.0

    return Curve(optimizer, factor), {"interval": "step"}


SCHEDULES: dict[str, Callable[..., tuple[LRScheduler, dict[str, Any]]]] = {
    "none": _none,
    "steps": _steps,
    "cosine": _cosine,
    "onecycle": _onecycle,
    "plateau": _plateau,
}
KEYS = Part(SCHEDULES, by="name", default="steps")


def half_cosine(progress: float, end: float) -> float:
    """From 1 at 0 to `end` at 1.

    >>> [round(half_cosine(progress, 0.01), 3) for progress in (0, 0.5, 1)]
    [1.0, 0.505, 0.01]
    """
    return end + (1 - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def build_schedule(optimizer: Optimizer, settings: Mapping[str, Any], span: Span) -> dict[str, Any]:
    """What Lightning calls a scheduler's configuration.

    `settings` hold `name` (none, steps, cosine, onecycle or plateau; steps unless given) and its keywords: see these
    functions. Or `_target_` with keywords of its own, and `interval` ("epoch" or "step") for how often it moves, and
    `frequency`, in such intervals; ReduceLROnPlateau needs `monitor`, the logged value that it watches. None leaves a
    keyword out.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    if TARGET in given:
        return _own(optimizer, given)
    read_all(keys_of(KEYS, given)[0], given, "model.schedule.")
    name = given.pop("name", "steps")
    try:
        schedule, moves = SCHEDULES[name](optimizer, span, **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"model.schedule is refused: {str(error).replace('()', '', 1).lstrip('_')}") from error
    return {"scheduler": schedule, **moves}


def _own(optimizer: Optimizer, given: dict[str, Any]) -> dict[str, Any]:
    words = {word: given.pop(word) for word in ("interval", "monitor", "frequency") if word in given}
    interval = words.get("interval", "epoch")
    _check("interval", interval, interval in ("epoch", "step"), "epoch or step")
    schedule = build(given, "model.schedule", optimizer)
    if isinstance(schedule, ReduceLROnPlateau):
        return {
            "scheduler": schedule,
            **_watched(words.get("monitor"), words.get("frequency", 1)),
            "interval": interval,
        }
    if not isinstance(schedule, LRScheduler):
        raise UserError(f"model.schedule: {given[TARGET]} is no torch.optim.lr_scheduler.LRScheduler.")
    if "monitor" in words:
        raise UserError(f"model.schedule.monitor is for ReduceLROnPlateau; {given[TARGET]} watches nothing.")
    return {"scheduler": schedule, "interval": interval, "frequency": words.get("frequency", 1)}


def _check(name: str, value: Any, fits: bool, expected: str) -> None:
    if not fits:
        raise UserError(f"model.schedule.{name} is {expected}, got {value}.")
