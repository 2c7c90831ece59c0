"""What `evaluate measure=…` measures beside the scores: open set, mixed galleries, or a class of one's own.

`measure={_target_: my_lab.Mine, keyword: 3}` names one's own: called with a `MeasureInput` and the evaluation's folder,
where it may leave pictures, it gives a `MeasureResult`.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mpanet_pl.data import Catalogue
from mpanet_pl.evaluation import RetrievalProtocol
from mpanet_pl.evaluation.calibration import Calibration
from mpanet_pl.evaluation.mixed import KINDS, evaluate_mixed, mixed_tables, mixed_values
from mpanet_pl.evaluation.open_set import evaluate_open_set
from mpanet_pl.evaluation.open_set_tables import open_set_tables, open_set_values
from mpanet_pl.evaluation.tables import Grid
from mpanet_pl.run.calibrating import threshold_of
from mpanet_pl.run.pictures.curves import draw_distributions, draw_roc, draw_trades


class MeasureInput(NamedTuple):
    """What there is to measure: embeddings (N, D) of the catalogue's images under a protocol."""

    embeddings: Tensor
    catalogue: Catalogue
    protocol: RetrievalProtocol
    held_out: Calibration | None = None  # training people who were not trained on
    descriptors: Tensor | None = None  # (N, D): what the network's neck was given


class MeasureResult(NamedTuple):
    """What results.md shows and results.json keeps."""

    tables: Sequence[Grid] = ()
    notes: Sequence[str] = ()
    values: Mapping[str, Any] = {}  # fields of `Results`


def open_set(measured: MeasureInput, folder: Path) -> MeasureResult:
    embeddings, catalogue, protocol, held_out, _ = measured
    scores = evaluate_open_set(embeddings, catalogue, protocol, calibration=held_out)
    draw_roc({setting: score.verification for setting, score in scores.items()}, folder / "roc.png")
    draw_trades({setting: score.by_size for setting, score in scores.items()}, folder / "det.png")
    notes = [*dict.fromkeys(score.measured for score in scores.values()), OVER_PEOPLE]
    threshold = threshold_of(embeddings, catalogue, held_out)
    return MeasureResult(open_set_tables(scores), notes, {"open_set": open_set_values(scores), "threshold": threshold})


def mixed(measured: MeasureInput, folder: Path) -> MeasureResult:
    scores = evaluate_mixed(*measured[:3], descriptors=measured.descriptors)
    draw_distributions(dict(zip(KINDS, scores.similarities, strict=True)), folder / "similarity_by_modality.png")
    strangers = "mixed gallery: strangers are all test images of others in the query's own modality"
    return MeasureResult(mixed_tables(scores), [strangers], {"mixed": mixed_values(scores)})


OVER_PEOPLE = "open set: ± is over draws, a–b the 95 % interval over other people like these"

Measure = Callable[[MeasureInput, Path], MeasureResult]
MEASURES: Mapping[str, Measure] = {"open_set": open_set, "mixed": mixed}
