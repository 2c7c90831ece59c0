"""Scores over severities, a panel a corruption: clean at 0, and 95 % intervals over other people."""

from collections.abc import Mapping
from itertools import zip_longest
from math import ceil
from pathlib import Path

from mpanet_pl.evaluation.scoring import Scores
from mpanet_pl.run.pictures.diagram import COLOURS, figure, save, tidy

COLUMNS = 5
DRAWN = 3  # where severities that are drawn stand


def draw_corrupted(
    found: Mapping[tuple[str, int], Mapping[str, Scores]], clean: Mapping[str, Scores], path: Path
) -> None:
    """R1 by setting; `found` is by corruption and severity (-1: drawn from all)."""
    names = list(dict.fromkeys(name for name, _ in found))
    columns = min(COLUMNS, len(names))
    rows = ceil(len(names) / columns)
    drawn = figure(max(4.8, 2.2 * columns), 0.5 + 2.1 * rows)
    panels = drawn.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    for axes, name in zip_longest(panels, names):
        if name is None:
            axes.set_visible(False)
            continue
        tidy(axes, name.replace("_", " "), "severity, 0 is clean")
        for colour, setting in zip(COLOURS, clean, strict=False):
            line = {0: clean[setting]} | {s: scores[setting] for (of, s), scores in found.items() if of == name}
            places = [DRAWN if severity < 0 else severity for severity in line]
            r1 = [scores.r1 for scores in line.values()]
            low, high = zip(*(scores.ci["r1"] for scores in line.values()), strict=True)
            ends = [[abs(a - b) for a, b in zip(r1, end, strict=True)] for end in (low, high)]
            style = {"color": colour, "linewidth": 1.2, "elinewidth": 0.7, "marker": "o", "markersize": 2.5}
            axes.errorbar(places, r1, yerr=ends, label=setting.replace("_", " "), **style)
        if (name, -1) in found:
            axes.set_xticks([0, DRAWN], ["clean", "1 to 5, drawn"])
    panels[0].set_ylabel("R1, percent", fontsize=9)
    panels[0].legend(fontsize=7, frameon=False)
    save(drawn, path)
