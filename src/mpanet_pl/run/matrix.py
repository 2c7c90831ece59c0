"""Several checkpoints on several test sets: who was trained on what, and how well each finds people elsewhere.

Each checkpoint is evaluated as it would be alone, on `dataset=joint` with the test sets of `test_on`.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.published import across
from mpanet_pl.evaluation.tables import Grid, Results, headline, markdown, print_tables
from mpanet_pl.run.evaluating import evaluate
from mpanet_pl.run.examination import GroundTruthOf
from mpanet_pl.run.request import Request
from mpanet_pl.system.files import write_text

MARKDOWN = "matrix.md"
REMARK = "R1 (95 % interval over other people) / mAP, percent; a row is a checkpoint, a column a test set's setting"

CONDITIONS = (
    "published rows are under their own conditions, which a run here may not share: see gallery, not said, source"
)


def evaluate_all(cfg: DictConfig, request: Request, ground_truth_of: GroundTruthOf) -> None:
    """Evaluate each of `ckpts` into a folder of its own, and put them into one table."""
    if len(set(cfg.ckpts)) < len(cfg.ckpts):
        raise UserError("ckpts names a checkpoint twice.")
    missing = [str(path) for path in cfg.ckpts if not Path(path).is_file()]
    if missing:
        raise UserError(f"{', '.join(missing)} does not exist.")
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    folder = Path(cfg.run_dir or f"runs/matrix/{started}").absolute()
    rows = []
    for number, path in enumerate(cfg.ckpts, start=1):
        one = cfg.copy()
        one.ckpt, one.ckpts, one.run_dir = str(path), [], str(folder / f"{number:02}")
        evaluate(one, request, ground_truth_of)
        rows.append((str(path), Results.read(one.run_dir)))
    grid = table(rows)
    beside = across(grid[0][2:])
    grids, remarks = [grid, *([beside] if beside else [])], [REMARK, *([CONDITIONS] if beside else [])]
    write_text(folder / MARKDOWN, markdown(grids, remarks))
    print_tables(grids, remarks)
    print(f"\nFiles: {folder}")


def table(rows: Sequence[tuple[str, Results]]) -> Grid:
    """A line a checkpoint; what it does not have stays empty."""
    scores = [next(iter(results.scores.values())) for _, results in rows]
    settings = list(dict.fromkeys(setting for found in scores for setting in found))
    lines = [
        [path, trained_on(results), *(headline(found.get(setting)) for setting in settings)]
        for (path, results), found in zip(rows, scores, strict=True)
    ]
    return ["checkpoint", "trained on", *settings], lines


def trained_on(results: Results) -> str:
    """The names of a checkpoint's training sets; empty where it does not say."""
    trained = results.provenance.get("trained") or {}
    names = trained.get("train_on") if trained.get("dataset") == "joint" else [trained.get("dataset") or ""]
    return " + ".join(map(str, names or []))
