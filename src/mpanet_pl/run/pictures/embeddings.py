"""Two looks at an embedding space: where people lie in it, and how alike one person's images are across modalities."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from torch import Tensor
from torch.nn.functional import normalize

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.evaluation.calibration import evenly
from mpanet_pl.run.pictures.diagram import COLOURS, INK, diagram, figure, save
from mpanet_pl.run.pictures.tsne import tsne

HOLLOW = {"markerfacecolor": "none"}
MOST_IMAGES = 40  # of an identity, so that t-SNE stays quick
MOST_PER_SIDE = 2000  # of the pairs' images, so that they fit into memory


def draw_embeddings(embeddings: Tensor, catalogue: Catalogue, path: Path) -> None:
    """t-SNE of a few identities' embeddings (N, D) under cosine distance: a colour and a number each, a marker each
    modality.

    The identities stand at equal distances in the sorted list of those seen in both modalities.
    """
    rows = _a_few(catalogue)
    shown = catalogue[rows]
    perplexity = min(20.0, (len(rows) - 1) / 3)
    places = tsne(normalize(embeddings[rows].float(), dim=1), perplexity=perplexity)
    drawn = figure(5.6, 4.8)
    axes = drawn.subplots()
    axes.set_axis_off()
    for colour, identity in zip(COLOURS, shown.identities.unique().tolist(), strict=False):
        own = shown.identities == identity
        visible, infrared = places[own & ~shown.infrared], places[own & shown.infrared]
        axes.scatter(visible[:, 0], visible[:, 1], s=26, marker="o", color=colour, linewidths=0, label=str(identity))
        axes.scatter(
            infrared[:, 0], infrared[:, 1], s=30, marker="^", facecolors="none", edgecolors=colour, linewidths=1.2
        )
        middle = places[own].median(dim=0).values.tolist()
        name = axes.annotate(str(identity), middle, ha="center", va="center", fontsize=9, weight="bold", color=INK)
        name.set_path_effects([withStroke(linewidth=3, foreground="white")])
    key = [Line2D([], [], linestyle="", marker=kind, color=INK, **how) for kind, how in (("o", {}), ("^", HOLLOW))]
    people = axes.legend(title="person", loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
    people.get_title().set_fontsize(8)
    axes.add_artist(people)
    axes.legend(key, ["visible", "infrared"], loc="lower left", bbox_to_anchor=(1, 0), fontsize=8, frameon=False)
    title = f"t-SNE of embeddings (cosine, perplexity {perplexity:.0f}): {len(rows)} images of {len(axes.texts)} people"
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    save(drawn, path)


def _a_few(catalogue: Catalogue) -> Tensor:
    both = np.intersect1d(catalogue.identities[catalogue.infrared], catalogue.identities[~catalogue.infrared])
    chosen = evenly(torch.from_numpy(both), len(COLOURS)).tolist()
    return torch.cat([evenly((catalogue.identities == identity).nonzero()[:, 0], MOST_IMAGES) for identity in chosen])


class Cut(NamedTuple):
    """A cosine from which on two images are taken to show one person."""

    value: float
    name: str  # where it comes from


def draw_similarities(embeddings: Tensor, catalogue: Catalogue, path: Path, cut: Cut | None = None) -> None:
    """Histograms of the cosine similarity of pairs of a visible and an infrared image, by whether they show one person.

    A line marks the `cut`, or where both kinds of errors are as many, and says both. All pairs; of more than
    `MOST_PER_SIDE` images of a modality, those of as many at equal distances in the catalogue.
    """
    unit = normalize(embeddings.float(), dim=1).cpu()
    sides = (~catalogue.infrared, catalogue.infrared)
    visible, infrared = (evenly(side.nonzero()[:, 0], MOST_PER_SIDE) for side in sides)
    similarity = unit[visible] @ unit[infrared].T
    same = catalogue.identities[visible, None] == catalogue.identities[infrared]
    cut = cut or Cut(equal_errors_at(similarity[same], similarity[~same]), "equal error")
    drawn, axes = diagram("visible-infrared pairs, share of each kind per bin", "cosine similarity")
    edges = torch.linspace(min(float(similarity.min()), cut.value), max(float(similarity.max()), cut.value), 61)
    for name, kind, colour, hatch in (("two people", ~same, COLOURS[1], "///"), ("one person", same, COLOURS[0], "")):
        found = similarity[kind]
        wrong = 100 * float(((found >= cut.value) if kind is not same else (found < cut.value)).float().mean())
        error = f"accepted wrongly {wrong:.1f} %" if kind is not same else f"missed {wrong:.1f} %"
        counts = found.histogram(edges).hist
        label = f"{name}, mean {float(found.mean()):.2f}: {error}"
        style = {"fill": True, "facecolor": colour, "edgecolor": colour, "alpha": 0.45, "hatch": hatch, "label": label}
        axes.stairs((counts / counts.sum()).tolist(), edges.tolist(), **style)
    axes.axvline(cut.value, color=INK, linewidth=1.4, label=f"{cut.name}: cosine {cut.value:.3f}")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=8, frameon=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    save(drawn, path)


def equal_errors_at(same: Tensor, different: Tensor) -> float:
    """The similarity at which as large a share of `same` lies below as of `different` at or above.

    >>> equal_errors_at(torch.tensor([0.3, 0.7, 0.8, 0.9]), torch.tensor([0.0, 0.1, 0.2, 0.7]))
    0.699999988079071
    """
    same, different = same.sort().values, different.sort().values
    missed = torch.searchsorted(same, same) / len(same)
    accepted = 1 - torch.searchsorted(different, same) / len(different)
    return float(same[(missed - accepted).abs().argmin()])
