"""What all diagrams share: colours that the colour-blind can tell apart, axes without ornament, labels on the lines."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.optimize import isotonic_regression

from mpanet_pl.system.files import written_aside

# Okabe and Ito's palette without its yellow, which is faint on white; brown takes its place.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C510A", "#555555")
MARKERS = "os^DvPX*"  # one beside each colour
INK = "#222222"
DOTS_PER_INCH = 150


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, of no global state."""
    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")


def diagram(title: str, across: str, *, width: float = 6.4, height: float = 3.6) -> tuple[Figure, Axes]:
    """A figure of one panel."""
    drawn = figure(width, height)
    axes = drawn.subplots()
    tidy(axes, title, across)
    return drawn, axes


def tidy(axes: Axes, title: str, across: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel(across, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, color=INK, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.6)
    axes.set_axisbelow(True)


def label_ends(axes: Axes, lines: Sequence[Line2D]) -> None:
    """Write each line's label beside its end, in its colour, spread out where ends lie close together."""
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_axes.transform(np.asarray(line.get_xydata()))[-1, 1]) for line in lines]
    for line, height in zip(lines, spread(wanted, gap=0.065), strict=True):
        place = (1.02, height)
        axes.annotate(
            str(line.get_label()), place, xycoords="axes fraction", color=line.get_color(), fontsize=8, va="center"
        )


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Heights moved apart until neighbours are `gap` apart, their order and the middle of each crowd kept.

    >>> spread([0.5, 0.1, 0.5], gap=0.2)
    [0.4, 0.1, 0.6]
    """
    order, steps = np.argsort(heights, kind="stable"), gap * np.arange(len(heights))
    placed = np.empty(len(heights))
    placed[order] = isotonic_regression(np.array(heights)[order] - steps).x + steps
    return [round(height, 6) for height in placed.tolist()]


def save(drawn: Figure, path: Path) -> None:
    with written_aside(path) as aside:
        drawn.savefig(aside, format="png")
