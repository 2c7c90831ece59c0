"""Do pattern maps discover nuances? Answered where the nuances' places are known, which is in drawn datasets alone.

A map and a nuance's region meet on the map's own grid. The region is the set of cells whose centre lies in the nuance's
box, the box first widened about its centre to one cell where it is smaller, so that glasses have a cell to be found in.

- **pointing**: does the strongest cell of a map lie in the region? (the pointing game of Zhang et al., 2016)
- **coverage**: intersection over union of the region and the cells where the map exceeds the middle of its own range.
  A share of the region alone would be won by a map that is on everywhere.

Either is read three ways: of the best of an image's P maps (`some_map`), of the one map that is best for the nuance on
half of the images, measured on the other half (`one_map`), and of the global feature's activation (`activation`), which
is one map. `some_map` is easier than the others by its P tries: compare it with its chance, and `one_map` with
`activation`. Chance is the same reading with every image's maps replaced by another image's, so it contains what a
fixed place in the picture explains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mpanet_pl.evaluation.metric import gather_chunks
from mpanet_pl.world.annotations import Annotations

SHIFTS = 5  # how many pairings of images chance is averaged over


def activation_map(features: Tensor) -> Tensor:
    """Where a trunk's features (B, C, h, w) are strong, and so what their global mean is made of: (B, h, w)."""
    return features.float().abs().mean(dim=1)


def regions(boxes: Tensor, height: int, width: int) -> Tensor:
    """The cells of a height × width grid that belong to each box (N, K, 4): (N, K, height, width) bool.

    >>> regions(torch.tensor([[[0.5, 0.0, 1.0, 0.5]]]), 2, 4).int()
    tensor([[[[0, 0, 1, 1],
              [0, 0, 0, 0]]]], dtype=torch.int32)
    """
    left, top, right, bottom = boxes.unbind(dim=-1)  # (N, K) each
    return _cells(top, bottom, height)[..., :, None] & _cells(left, right, width)[..., None, :]


def _cells(low: Tensor, high: Tensor, count: int) -> Tensor:
    """The cells of one axis within [low, high], at least one: (N, K, count); none where low or high is NaN."""
    centres = (torch.arange(count, device=low.device) + 0.5) / count
    reach = (high - low).clamp(min=1 / count) / 2 + 1e-6  # an edge on a cell's centre counts as inside
    return (centres - ((low + high) / 2)[..., None]).abs() <= reach[..., None]


def pointing(maps: Tensor, region: Tensor) -> Tensor:
    """(N, P, h, w) maps and (N, K, h, w) regions -> (N, K, P): 1 where the strongest cell lies in the region.

    Where several cells are equally strong, the share of them in the region: a constant map scores by luck alone.
    """
    peaks = (maps == maps.amax(dim=(2, 3), keepdim=True)).float()
    return torch.einsum("nphw,nkhw->nkp", peaks / peaks.sum(dim=(2, 3), keepdim=True), region.float())


def coverage(maps: Tensor, region: Tensor) -> Tensor:
    """(N, P, h, w) maps and (N, K, h, w) regions -> (N, K, P): intersection over union."""
    middle = (maps.amax(dim=(2, 3), keepdim=True) + maps.amin(dim=(2, 3), keepdim=True)) / 2
    on, region = (maps >= middle).float(), region.float()
    shared = torch.einsum("nphw,nkhw->nkp", on, region)
    return shared / (on.sum(dim=(2, 3))[:, None, :] + region.sum(dim=(2, 3))[:, :, None] - shared)


def some_map(found: Tensor, visible: Tensor) -> Tensor:
    """The best map of each image, averaged over the images where the nuance is visible: (N, K, P) -> (K,)."""
    return _mean_where(found.amax(dim=2, keepdim=True), visible).squeeze(1)


def one_map(found: Tensor, visible: Tensor) -> Tensor:
    """The map that is best for the nuance on half of the images, averaged over the other half, both ways: -> (K,)."""
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    half = torch.zeros(len(found), dtype=torch.bool)
    half[order[: len(found) // 2]] = True
    rates = torch.stack([_mean_where(found[half], visible[half]), _mean_where(found[~half], visible[~half])])
    chosen = rates.nan_to_num().argmax(dim=2).flip(0)  # (2, K), each half measured with the other's choice
    return rates.gather(2, chosen[..., None]).squeeze(2).nanmean(dim=0)


def _mean_where(found: Tensor, visible: Tensor) -> Tensor:
    """(N, K, P) and (N, K) -> (K, P), NaN where the nuance is never visible."""
    return (found * visible[..., None]).sum(dim=0) / visible.sum(dim=0)[:, None]


def overlap(maps: Tensor) -> dict[str, float]:
    """How alike an image's maps (N, P, h, w) are: cosine and soft intersection over union (Σ min / Σ max), over pairs.

    >>> overlap(torch.eye(4).reshape(1, 4, 2, 2))
    {'cosine': 0.0, 'iou': 0.0}
    """
    first, second = torch.triu_indices(maps.shape[1], maps.shape[1], offset=1)
    one, other = maps.flatten(2)[:, first], maps.flatten(2)[:, second]  # (N, pairs, hw)
    cosine = torch.cosine_similarity(one, other, dim=2)
    iou = torch.minimum(one, other).sum(dim=2) / torch.maximum(one, other).sum(dim=2).clamp(min=1e-12)
    return {"cosine": cosine.mean().item(), "iou": iou.mean().item()}


def score_maps(maps: Tensor, activation: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    """Every measure and reading of maps (N, P, h, w) and activation (N, h, w), each beside its chance: (K,) in percent.

    Names are `pointing_some_map`, `pointing_some_map_chance` …; without maps (P = 0) only the activation's.
    """
    region = regions(boxes, *activation.shape[-2:])
    visible = ~boxes.isnan().any(dim=2)
    readings: dict[str, tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]] = {
        "some_map": (maps, some_map),
        "one_map": (maps, one_map),
        "activation": (activation[:, None], some_map),
    }
    scores = {}
    for measure in (pointing, coverage):
        for name, (responses, read) in readings.items():
            if responses.shape[1] == 0:
                continue
            by_chance = [read(measure(responses[other], region), visible) for other in pairings(len(maps))]
            scores[f"{measure.__name__}_{name}"] = 100 * read(measure(responses, region), visible)
            scores[f"{measure.__name__}_{name}_chance"] = 100 * torch.stack(by_chance).mean(dim=0)
    return scores


def pairings(count: int) -> list[Tensor]:
    """Up to `SHIFTS` ways to give each of `count` images another one, never its own; the same in every call."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    place = order.argsort()
    return [order.roll(shift)[place] for shift in range(1, max(2, min(SHIFTS + 1, count)))]


class NuanceScore(Metric):
    """Gathers maps and activations of a test set, over batches and ranks, and scores them; order does not matter."""

    full_state_update = False
    maps: list[Tensor]
    activation: list[Tensor]
    index: list[Tensor]

    def __init__(self, annotations: Annotations) -> None:
        super().__init__(dist_sync_fn=gather_chunks)
        self.annotations = annotations
        for name in ("maps", "activation", "index"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, maps: Tensor, activation: Tensor, index: Tensor) -> None:
        """maps (B, P, h, w), activation (B, h, w), index (B,): rows of the annotated catalogue."""
        self.maps.append(maps.detach().float())
        self.activation.append(activation.detach().float())
        self.index.append(index)

    def compute(self) -> dict[str, float]:
        """Flat scores, `measure/nuance` and `measure/mean`, in percent; what no image shows is left out."""
        index, first = np.unique(dim_zero_cat(self.index).cpu().numpy(), return_index=True)
        maps, activation = dim_zero_cat(self.maps).cpu()[first], dim_zero_cat(self.activation).cpu()[first]
        boxes = self.annotations.boxes[torch.from_numpy(index)]
        scores = {"images": (~boxes.isnan().any(dim=2)).sum(dim=0).float()}
        scores |= score_maps(maps, activation, boxes)
        pairs = overlap(maps) if maps.shape[1] > 1 else {}
        return by_name(scores, self.annotations.nuances) | {f"overlap/{name}": 100 * pairs[name] for name in pairs}


def by_name(scores: Mapping[str, Tensor], nuances: tuple[str, ...]) -> dict[str, float]:
    """{measure: (K,)} -> {"measure/nuance": value, …, "measure/mean": mean over nuances}, NaN left out."""
    flat: dict[str, float] = {}
    for measure, values in scores.items():
        named = {name: value for name, value in zip(nuances, values.tolist(), strict=True) if value == value}
        named["mean"] = values.nanmean().item()
        flat |= {f"{measure}/{name}": value for name, value in named.items() if value == value}
    return flat
