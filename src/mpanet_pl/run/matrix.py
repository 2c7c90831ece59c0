"""Several checkpoints on several test sets: who was trained on what, and how well each finds people elsewhere.

Each checkpoint is evaluated as it would be alone, on `dataset=joint` with the test sets of `test_on`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.published import across
from mpanet_pl.evaluation.tables import JSON as RESULTS
from mpanet_pl.evaluation.tables import Grid, markdown, print_tables
from mpanet_pl.run.evaluating import evaluate
from mpanet_pl.run.examination import Know
from mpanet_pl.run.settings import Request
from mpanet_pl.system.files import written_aside

MARKDOWN = "matrix.md"
REMARK = "R1 (95 % interval over other people) / mAP, percent; a row is a checkpoint, a column a test set's setting"

CONDITIONS = (
    "published rows are under their own conditions, which a run here may not share: see gallery, not said, source"
)


def evaluate_all(cfg: DictConfig, request: Request, know: Know) -> None:
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
        evaluate(one, request, know)
        rows.append((str(path), json.loads((folder / f"{number:02}" / RESULTS).read_text(encoding="utf-8"))))
    grid = table(rows)
    beside = across(grid[0][2:])
    grids, remarks = [grid, *([beside] if beside else [])], [REMARK, *([CONDITIONS] if beside else [])]
    with written_aside(folder / MARKDOWN) as aside:
        aside.write_text(markdown(grids, remarks) + "\n", encoding="utf-8")
    print_tables(grids, remarks)
    print(f"\nFiles: {folder}")


def table(rows: list[tuple[str, Mapping[str, Any]]]) -> Grid:
    """A line a checkpoint; what it does not have stays empty."""
    scores = [next(iter(results["scores"].values())) for _, results in rows]
    settings = list(dict.fromkeys(setting for found in scores for setting in found))
    lines = [
        [path, trained_on(results), *(cell(found.get(setting)) for setting in settings)]
        for (path, results), found in zip(rows, scores, strict=True)
    ]
    return ["checkpoint", "trained on", *settings], lines


def trained_on(results: Mapping[str, Any]) -> str:
    """The names of a checkpoint's training sets; empty where it does not say."""
    trained = (results.get("provenance") or {}).get("trained") or {}
    names = trained.get("train_on") if trained.get("dataset") == "joint" else [trained.get("dataset") or ""]
    return " + ".join(map(str, names or []))


def cell(scores: Mapping[str, Any] | None) -> str:
    """
    >>> cell({"r1": {"mean": 51.25, "ci": [40.0, 60.04]}, "mAP": {"mean": 47.0}}), cell(None)
    ('51.2 (40.0–60.0) / 47.0', '')
    """
    if scores is None:
        return ""
    r1, interval = scores["r1"], scores["r1"].get("ci")
    between = f" ({interval[0]:.1f}–{interval[1]:.1f})" if interval else ""
    return f"{r1['mean']:.1f}{between} / {scores['mAP']['mean']:.1f}"
