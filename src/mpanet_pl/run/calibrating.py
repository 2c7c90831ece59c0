"""The threshold that a run leaves: in its results, and in the checkpoint whose embeddings it is about."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mpanet_pl.data import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.calibration import OF_THE_TEST, Calibration, calibrate
from mpanet_pl.evaluation.thresholds import KEY, Threshold, percent
from mpanet_pl.run.pictures.embeddings import Cut
from mpanet_pl.system.files import written_aside


def threshold_of(embeddings: Tensor, catalogue: Catalogue, held_out: Calibration | None) -> dict[str, Any]:
    """Plain values, by those held out where there are some, else by the test people; empty where nobody can calibrate.

    `promises` repeats for readers what the laws in `settings` say of a few sizes.
    """
    threshold = calibrate(held_out or Calibration(embeddings, catalogue, OF_THE_TEST))
    return {**threshold.plain(), "promises": threshold.promises()} if threshold else {}


def cut_of(plain: Mapping[str, Any], test: Catalogue) -> Cut | None:
    """A run's threshold for a gallery of all its test people; None where it cannot promise one."""
    threshold = Threshold.of(plain, "the run")
    if threshold is None:
        return None
    try:
        limit = threshold.at(test.num_identities)
    except UserError:
        return None
    return Cut(limit.value, f"threshold ({percent(limit.rate)} false alarms with {limit.enrolled} people enrolled)")


def keep_in(checkpoint: Path, threshold: Mapping[str, Any]) -> None:
    """Write the threshold into a checkpoint, so that it goes wherever the checkpoint goes."""
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    with written_aside(checkpoint) as aside, aside.open("wb") as file:
        torch.save({**content, KEY: dict(threshold)}, file)
