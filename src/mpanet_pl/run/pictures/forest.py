"""Forest plots: differences with their intervals, one below the other, beside the line of no difference."""

from collections.abc import Mapping
from pathlib import Path

from mpanet_pl.run.pictures.diagram import COLOURS, INK, MARKERS, diagram, save


def draw_differences(rows: Mapping[str, Mapping[str, tuple[float, float, float]]], path: Path) -> None:
    """{label: {score: (difference, low, high)}} in percentage points, the first row on top."""
    longest = max(len(line) for label in rows for line in label.split("\n"))
    size = {"width": 5.2 + 0.07 * longest, "height": 1.1 + 0.45 * len(rows)}  # inches: a letter of a label takes 0.07
    drawn, axes = diagram("difference and its 95 % interval", "percentage points", **size)
    axes.grid(visible=False)
    axes.axvline(0, color=INK, linewidth=0.8)
    names = list(dict.fromkeys(name for scores in rows.values() for name in scores))
    for number, (name, colour, marker) in enumerate(zip(names, COLOURS, MARKERS, strict=False)):
        places = [place for place, scores in enumerate(rows.values()) if name in scores]
        heights = [place + 0.22 * (number - (len(names) - 1) / 2) for place in places]
        found = [scores[name] for scores in rows.values() if name in scores]
        reach = [[mean - low for mean, low, _ in found], [high - mean for mean, _, high in found]]
        means = [mean for mean, _, _ in found]
        axes.errorbar(means, heights, xerr=reach, fmt=marker, color=colour, markersize=4, linewidth=1.4, label=name)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
    save(drawn, path)
