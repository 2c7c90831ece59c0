"""Two looks at an embedding space: where people lie in it, and how alike one person's images are across modalities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.run.pictures.diagram import COLOURS, INK, figure, save, tidy
from mpanet_pl.run.pictures.tsne import tsne

MOST_IMAGES = 40  # of an identity, so that t-SNE stays quick
MOST_PER_SIDE = 2000  # of the pairs' images, so that they fit into memory


def draw_embeddings(embeddings: Tensor, catalogue: Catalogue, path: Path) -> None:
    """t-SNE of a few identities' embeddings (N, D) under cosine distance: a colour each, a marker each modality.

    The identities stand at equal distances in the sorted list of those seen in both modalities.
    """
    rows = _a_few(catalogue)
    shown = catalogue[rows]
    places = tsne(normalize(embeddings[rows].float(), dim=1), perplexity=min(20.0, (len(rows) - 1) / 3))
    drawn = figure(4.6, 4.6)
    axes = drawn.subplots()
    axes.set_axis_off()
    for colour, identity in zip(COLOURS, shown.identities.unique(), strict=False):
        own = shown.identities == identity
        visible, infrared = places[own & ~shown.infrared], places[own & shown.infrared]
        axes.scatter(visible[:, 0], visible[:, 1], s=26, marker="o", color=colour, linewidths=0)
        axes.scatter(
            infrared[:, 0], infrared[:, 1], s=30, marker="^", facecolors="none", edgecolors=colour, linewidths=1.2
        )
    axes.set_title(
        "a colour an identity, chosen at equal distances\nin the list of people; ● visible, △ infrared",
        fontsize=9,
        color=INK,
    )
    save(drawn, path)


def _a_few(catalogue: Catalogue) -> Tensor:
    both = np.intersect1d(catalogue.identities[catalogue.infrared], catalogue.identities[~catalogue.infrared])
    chosen = both[np.linspace(0, len(both) - 1, min(len(COLOURS), len(both))).astype(int)]
    of_each = [(catalogue.identities == identity).nonzero().flatten() for identity in chosen.tolist()]
    return torch.cat([rows[torch.linspace(0, len(rows) - 1, min(len(rows), MOST_IMAGES)).long()] for rows in of_each])


def _some(chosen: Tensor) -> Tensor:
    """Rows of the chosen images, at equal distances where they are many."""
    rows = chosen.nonzero().flatten()
    return rows[torch.linspace(0, len(rows) - 1, min(len(rows), MOST_PER_SIDE)).long()]


def draw_similarities(embeddings: Tensor, catalogue: Catalogue, path: Path) -> None:
    """Histograms of the cosine similarity of pairs of a visible and an infrared image, by whether they show one person.

    All pairs; of more than `MOST_PER_SIDE` images of a modality, those of as many at equal distances in the catalogue.
    """
    unit = normalize(embeddings.float(), dim=1).cpu()
    visible, infrared = _some(~catalogue.infrared), _some(catalogue.infrared)
    similarity = unit[visible] @ unit[infrared].T
    same = catalogue.identities[visible, None] == catalogue.identities[infrared]
    drawn = figure(5.4, 3.2)
    axes = drawn.subplots()
    tidy(axes, "visible-infrared pairs, share of each kind per bin", "cosine similarity")
    edges = torch.linspace(float(similarity.min()), float(similarity.max()), 61)
    kinds = (("two people", ~same, COLOURS[1], "right"), ("one person", same, COLOURS[0], "left"))
    for name, kind, colour, side in kinds:
        mean = float(similarity[kind].mean())
        counts = similarity[kind].histogram(edges).hist
        axes.stairs((counts / counts.sum()).tolist(), edges.tolist(), fill=True, facecolor=colour, alpha=0.45)
        axes.axvline(mean, color=colour, linewidth=1, linestyle=(0, (3, 2)))
        label = axes.annotate(f" {name} \n mean {mean:.2f} ", (mean, 0.99), xycoords=("data", "axes fraction"))
        label.set(ha=side, va="top", color=colour, fontsize=8)
    axes.margins(y=0.25)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    save(drawn, path)
