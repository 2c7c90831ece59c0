"""The studies of the drawn world whose tables docs print: their runs, and what the runs say together.

`python scripts/measure_docs.py NAME` makes the runs below `runs/NAME`, and docs/results/NAME.json. An experiment that
is started again goes on where it ended.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.special import stdtrit

from mpanet_pl.evaluation.differences import compare, holm
from mpanet_pl.evaluation.outcomes import NAMES
from mpanet_pl.evaluation.tables import COLUMNS, HEADLINES, shown
from mpanet_pl.run.comparison import between, chance
from mpanet_pl.run.methods_compared import Method, read_method
from mpanet_pl.run.run_page import cost_of
from mpanet_pl.run.summary import summarize
from mpanet_pl.run.summary_page import costs

Table = dict[str, list[Any]]
SETTING = "all/single"
RUNGS = ("baseline", "separation", "center_cluster", "full")
CLAIMS = {
    "alleviation, maps and separation help": ("baseline", "separation"),
    "so does the centre-cluster loss": ("separation", "center_cluster"),
    "mutual mean learning adds to that loss": ("center_cluster", "full"),
    "the whole method is better than its baseline": ("baseline", "full"),
}
CLAIMED_ON = (4, 5)  # worlds
MARGIN = 2.0  # points, within which nothing is gained
POINTED_ON, MAPS = (6, 7), ("full", "local_maps")
POINTS = {
    "some map points": "pointing_some_map",
    "one map points": "pointing_one_map",
    "siblings told apart": "siblings",
}
DOMAINS = ("indoors", "night", "winter")
TUTORIAL = Path(__file__).parents[1] / "examples/tutorial"
TRAINED_ON = {"indoors": "indoors", "night": "night", "both": "indoors,night"}


def train(*words: str, at: Path | None = None) -> None:
    subprocess.run([sys.executable, "-m", "mpanet_pl.train", *words], check=True, cwd=at)


def methods(runs: Path) -> dict[str, Any]:
    """Five methods, each by its own recipe and all by ours: two sweeps, and what their runs are summarised to."""
    found = {}
    for experiment in ("methods", "methods_one_recipe"):
        train(f"experiment={experiment}")
        found[experiment] = tables_of(runs / experiment)
    return found


def tables_of(runs: Path) -> dict[str, Any]:
    """A row a method, of its runs that differ by seed; stars by Holm over all settings and scores."""
    summary = summarize([runs])
    (compared,) = summary.comparisons
    _, cells = compared.table()
    _, spent = costs(summary.groups) or ((), [])
    cost = {name.removeprefix("synthetic "): row for name, *row in spent}
    rows, more = [], []
    for _, what, *scores in (row for row in cells if row[0] == SETTING):
        name = what.replace("synthetic ", "")
        if name in cost:
            _, minutes, weights = cost[name]
            rows.append([name, weights, minutes, *scores])
        else:
            more.append([name, *(score.replace("-", "−") for score in scores)])
    head = [COLUMNS[name] for name in HEADLINES]
    return {
        "scores": {"columns": ["method", "weights, millions", "processor minutes", *head], "rows": rows},
        "differences": {"columns": ["difference", *head], "rows": more},
        "remarks": [line for line in compared.remarks() if "told four times" in line or "standard errors" in line],
        "seeds": sorted({len(group.runs) for group in summary.groups}),
    }


def tracks(runs: Path) -> dict[str, Any]:
    """One frame of a tracklet and six, in training and in the test."""
    train("experiment=tracks")
    for one in sorted((runs / "tracks/frames1").glob("seed*")):
        words = [f"ckpt={one}/checkpoints/last.ckpt", "data.frames=6", f"run_dir={runs}/tracks/tested6/{one.name}"]
        subprocess.run([sys.executable, "-m", "mpanet_pl.evaluate", *words], check=True)
    return tracks_said(runs / "tracks")


def tracks_said(runs: Path) -> dict[str, Any]:
    found = {name: of(runs / name) for name in ("frames1", "tested6", "frames6")}
    said = {"frames1": ("one frame", "one frame"), "tested6": ("one frame", "six"), "frames6": ("six", "six")}
    pairs = {
        "six at the test": (found["frames1"], found["tested6"]),
        "six in training, too": (found["tested6"], found["frames6"]),
        "six in both": (found["frames1"], found["frames6"]),
    }
    return {
        "scores": scores(["trained on", "tested with"], [(said[name], one, SETTING) for name, one in found.items()]),
        "gains": gains(["what six frames gain"], [((name,), *pair, SETTING) for name, pair in pairs.items()]),
    }


def joint(runs: Path) -> dict[str, Any]:
    """What training on two domains gains on each of them and on a third."""
    train("experiment=joint")
    return joint_said(runs / "joint")


def joint_said(runs: Path) -> dict[str, Any]:
    found = {name: of(runs / folder) for name, folder in TRAINED_ON.items()}
    settings = {domain: f"{domain}/{SETTING}" for domain in DOMAINS}
    return {
        "scores": scores(
            ["tested on", "trained on"],
            [((domain, name), one, settings[domain]) for domain in DOMAINS for name, one in found.items()],
        ),
        "gains": gains(
            ["tested on", "both instead of"],
            [
                ((domain, alone), found[alone], found["both"], settings[domain])
                for domain in DOMAINS
                for alone in ("indoors", "night")
            ],
        ),
    }


def claims(runs: Path) -> dict[str, Any]:
    """Four rungs of the paper's ladder on two more worlds, decided by one table."""
    train("experiment=claims")
    return claims_said(runs / "claims")


def claims_said(runs: Path) -> dict[str, Any]:
    found = {world: {rung: of(runs / f"world{world}" / rung) for rung in RUNGS} for world in CLAIMED_ON}
    return {
        "scores": scores(
            ["world", "rung"],
            [((str(world), rung), one, SETTING) for world, rungs in found.items() for rung, one in rungs.items()],
        ),
        "gains": gains(
            ["claim", "world"],
            [
                ((claim, str(world)), *(rungs[rung] for rung in pair), SETTING)
                for claim, pair in CLAIMS.items()
                for world, rungs in found.items()
            ],
            MARGIN,
        ),
    }


def pointing(runs: Path) -> dict[str, Any]:
    """Where the paper's maps and local ones point, on two more worlds of larger pictures."""
    train("experiment=pointing")
    return pointing_said(runs / "pointing")


def pointing_said(runs: Path) -> dict[str, Any]:
    found = [[of(runs / f"world{world}" / rung) for rung in MAPS] for world in POINTED_ON]
    rows = [((str(world),), *pair, SETTING) for world, pair in zip(POINTED_ON, found, strict=True)]
    return {"maps": points(found), "gains": gains(["world"], rows, MARGIN)}


def points(worlds: Sequence[Sequence[Method]]) -> Table:
    """A row a measure, above its chance: of both kinds of maps, and how much more of the second, over pairs of runs."""
    sides = [[run.nuances for one in side for run in one.runs] for side in zip(*worlds, strict=True)]
    rows = []
    for what, measure in POINTS.items():
        ours, theirs = (
            np.array([one[f"{measure}/mean"] - one.get(f"{measure}_chance/mean", 50.0) for one in side])
            for side in sides
        )
        more = theirs - ours
        reach = stdtrit(len(more) - 1, 0.975) * more.std(ddof=1) / len(more) ** 0.5
        told = f"{more.mean():+.1f} ({between(more.mean() - reach, more.mean() + reach)})"
        cells = [f"{ours.mean():+.1f}", f"{theirs.mean():+.1f}", told]
        rows.append([what, *(cell.replace("-", "−") for cell in cells)])
    return {"columns": ["above chance, points", "MPANet's maps", "local maps", "local maps more"], "rows": rows}


def tutorial(runs: Path) -> dict[str, Any]:
    """The tutorial's idea off and on, by the line of its page."""
    shutil.copytree(TUTORIAL, runs / "tutorial", dirs_exist_ok=True)
    train("--config-dir", "conf", "experiment=idea", at=runs / "tutorial")
    return tutorial_said(runs / "tutorial/ablation")


def tutorial_said(runs: Path) -> dict[str, Any]:
    off, on = of(runs / "weight0"), of(runs / "weight0.5")
    spent = [cost for folder in runs.glob("weight*/seed*") if (cost := cost_of(folder))]
    return {
        "page": "examples/tutorial/README.md",
        "scores": scores(["weight"], [(("0",), off, SETTING), (("0.5",), on, SETTING)]),
        "gains": gains(["setting"], [((setting,), off, on, setting) for setting in off.settings]),
        "processor_minutes": f"{fmean(cost.processor for cost in spent) / 60:.1f}",
    }


def of(folder: Path) -> Method:
    return read_method("A", folder, "last")


def scores(head: Sequence[str], rows: Sequence[tuple[Sequence[str], Method, str]]) -> Table:
    """A row each: what it is, and its scores with their intervals over people and runs."""
    cells = [[*what, *(shown(one.value(setting, name)) for name in HEADLINES)] for what, one, setting in rows]
    return {"columns": [*head, *(COLUMNS[name] for name in HEADLINES)], "rows": cells}


def gains(
    head: Sequence[str], rows: Sequence[tuple[Sequence[str], Method, Method, str]], margin: float | None = None
) -> Table:
    """A row each: how much more the second finds. By Holm over the table, * is a difference that is told, and = is one
    within `margin`.
    """
    places = [NAMES.index(name) for name in HEADLINES]
    found = [compare(*([run[setting] for run in one.answers] for one in pair)) for _, *pair, setting in rows]
    told = iter(holm([float(one.p[place]) for one in found for place in places]))
    alike = iter(holm([max(float(p[place]) for p in one.beyond(margin or 0)) for one in found for place in places]))
    cells = []
    for (what, *_), one in zip(rows, found, strict=True):
        cell = list(what)
        for place in places:
            mean, low, high, p = (float(column[place]) for column in one[:4])
            marks = "*" * (next(told) <= 0.05) + "=" * (next(alike) <= 0.05 and margin is not None)
            cell.append(f"{mean:+.1f} ({between(low, high)}), p {chance(p)}{marks}".replace("-", "−"))
        cells.append(cell)
    return {"columns": [*head, *(COLUMNS[name] for name in HEADLINES)], "rows": cells}
