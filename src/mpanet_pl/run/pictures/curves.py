"""Curves: what a run logged, epoch by epoch, and how soon each setting's queries find their identity."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from mpanet_pl.evaluation.gallery_sizes import Trade
from mpanet_pl.evaluation.outcomes import RANKS
from mpanet_pl.evaluation.scoring import Scores
from mpanet_pl.evaluation.verification import Verification
from mpanet_pl.run.pictures.diagram import COLOURS, INK, MARKERS, diagram, figure, label_ends, save, tidy

LOSSES = "loss terms and their weighted total"
SCORES = "validation: R1 (solid, ●), mAP (dashed, ▲), percent"
RATE = "learning rate"
NOT_A_LOSS = ("lr", "alpha", "accuracy")
LAST_RANK = 20

Curve = tuple[Sequence[float], Sequence[float]]  # epochs, and the column's mean in each


def draw_curves(metrics: Path, path: Path) -> None:
    """Loss terms, scores and learning rate of a run, from its metrics.csv; nothing of a run too short to log any."""
    columns = read_epochs(metrics)
    trained = {name.removeprefix("train/"): curve for name, curve in columns.items() if name.startswith("train/")}
    panels = {
        LOSSES: {name: curve for name, curve in trained.items() if name not in NOT_A_LOSS},
        SCORES: {name: curve for name, curve in columns.items() if name.endswith(("/r1", "/mAP"))},
        RATE: {"lr": trained["lr"]} if "lr" in trained else {},
    }
    panels = {title: curves for title, curves in panels.items() if curves}
    if not panels:
        return

    drawn = figure(1 + 3.6 * len(panels), 3.3)
    last = max(epochs[-1] for curves in panels.values() for epochs, _ in curves.values())
    for (title, curves), axes in zip(panels.items(), drawn.subplots(1, len(panels), squeeze=False)[0], strict=True):
        tidy(axes, title, "epoch")
        axes.set_xlim(1 - 0.02 * last, last * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        {LOSSES: _draw_losses, SCORES: _draw_scores, RATE: _draw_rate}[title](axes, curves)
    save(drawn, path)


def read_epochs(metrics: Path) -> dict[str, Curve]:
    """The mean of every column in every epoch where it was logged; blanks, which a row is full of, are skipped."""
    logged: dict[str, dict[int, list[float]]] = {}
    with metrics.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("epoch", "step"):
                    logged.setdefault(name, {}).setdefault(int(row["epoch"]), []).append(float(value))
    return {name: (sorted(epochs), [fmean(epochs[e]) for e in sorted(epochs)]) for name, epochs in logged.items()}


def _draw_losses(axes: Axes, losses: Mapping[str, Curve]) -> None:
    colours = iter(COLOURS)
    lines = []
    for name, curve in losses.items():
        style = {"color": INK, "linewidth": 2} if name == "total" else {"color": next(colours)}
        lines.append(_line(axes, curve, label=name.replace("_", " "), **style))
    axes.set_yscale("log", nonpositive="mask")
    label_ends(axes, lines)


def _draw_scores(axes: Axes, scores: Mapping[str, Curve]) -> None:
    axes.set_ylim(0, 100)
    colours = iter(COLOURS)
    lines = []
    for name, curve in scores.items():
        if not name.endswith("/r1"):
            continue
        setting = name.removesuffix("/r1")
        label = setting.removeprefix("val/").replace("_", " ")
        lines.append(_line(axes, curve, label=label, color=next(colours)))
        if f"{setting}/mAP" in scores:
            dashed = {"color": lines[-1].get_color(), "linestyle": (0, (4, 2)), "marker": "^"}
            _line(axes, scores[f"{setting}/mAP"], **dashed)
    label_ends(axes, lines)


def _draw_rate(axes: Axes, rates: Mapping[str, Curve]) -> None:
    _line(axes, rates["lr"], color=INK)
    axes.set_yscale("log")


def _line(axes: Axes, curve: Curve, **style: Any) -> Line2D:
    (line,) = axes.plot(*curve, linewidth=1.4, marker="o" if len(curve[0]) <= 20 else "", markersize=2.5)
    line.set(**style)
    return line


def draw_roc(pairs: Mapping[str, Verification], path: Path) -> None:
    """Same-person pairs accepted over different-person pairs accepted, by setting; the latter on a logarithmic axis."""
    drawn, axes = diagram("same-person pairs accepted, percent", "different-person pairs accepted, percent")
    for colour, (setting, verification) in zip(COLOURS, pairs.items(), strict=False):
        rates = torch.logspace(-4, 0, 121, dtype=torch.float64).tolist()
        accepted = [100 * verification.at(rate) for rate in rates]
        label = f"{setting.replace('_', ' ')}, equal error {100 * verification.equal_error:.1f}"
        _line(axes, ([100 * rate for rate in rates], accepted), label=label, color=colour)
    axes.set_xscale("log")
    axes.set_ylim(0, 100)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    save(drawn, path)


def draw_trades(by_size: Mapping[str, Mapping[int, Trade]], path: Path) -> None:
    """Missed people over false alarms, a line for each number of people enrolled: DET curves, a panel a setting."""
    settings = {setting: sizes for setting, sizes in by_size.items() if sizes}
    if not settings:
        return
    drawn = figure(0.6 + 3.4 * len(settings), 3.4)
    for axes, (setting, sizes) in zip(
        drawn.subplots(1, len(settings), squeeze=False)[0], settings.items(), strict=True
    ):
        tidy(axes, f"{setting.replace('_', ' ')}: missed, percent", "false alarms, percent")
        for colour, (size, trade) in zip(COLOURS, sizes.items(), strict=False):
            curve = [[100 * share for share in shares] for shares in trade]
            axes.plot(*curve, linewidth=1.4, color=colour, label=f"{size} enrolled")
        axes.set_xscale("log")
        axes.set_xlim(0.1, 100)
        axes.set_ylim(0, 100)
        axes.legend(fontsize=8, frameon=False)
    save(drawn, path)


def draw_distributions(counts: Mapping[str, Tensor], path: Path) -> None:
    """Cosines of pairs of images: {kind of pair: (bins,) counts from -1 to 1}, each with an area of its own."""
    drawn, axes = diagram("pairs of images, by what they share", "cosine")
    for colour, (kind, found) in zip(COLOURS, counts.items(), strict=False):
        middles = ((torch.arange(len(found)) + 0.5) / len(found) * 2 - 1).tolist()
        _line(axes, (middles, (found / found.sum() * len(found) / 2).tolist()), label=kind, color=colour)
    axes.set_yticks([])
    axes.legend(fontsize=8, frameon=False)
    save(drawn, path)


def draw_cmc(scores: Mapping[str, Scores], path: Path) -> None:
    """How many queries find their identity among the first k, by setting, up to rank 20; bars are 95 % intervals."""
    drawn, axes = diagram("queries that find their identity among the first k, percent", "k")
    lines = []
    for number, (colour, (setting, score)) in enumerate(zip(COLOURS, scores.items(), strict=False)):
        curve = _to_rank_20(score.cmc)
        label = f"{setting.replace('_', ' ')}, R1 {curve[0]:.1f}"
        style = {"color": colour, "marker": MARKERS[number % len(MARKERS)], "markersize": 3.5}
        lines.append(_line(axes, (list(range(1, len(curve) + 1)), curve), label=label, **style))
        beside = 0.12 * (number - (len(scores) - 1) / 2)  # so that settings' bars do not cover one another
        for name, (low, high) in score.ci.items():
            if name in RANKS:
                axes.vlines(RANKS[name] + beside, low, high, color=colour, linewidth=1)
    axes.set_xlim(0.5, LAST_RANK + 0.5)
    axes.set_xticks([1, 5, 10, 15, 20])
    axes.set_ylim(top=100.5)
    label_ends(axes, lines)
    save(drawn, path)


def _to_rank_20(cmc: Tensor) -> list[float]:
    """The curve (R,), which ends where it reaches 100, up to rank 20.

    >>> _to_rank_20(torch.tensor([80.0, 100.0]))[:4]
    [80.0, 100.0, 100.0, 100.0]
    """
    curve: list[float] = cmc[:LAST_RANK].tolist()
    return curve + curve[-1:] * (LAST_RANK - len(curve))
