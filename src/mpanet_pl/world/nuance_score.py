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

`same_person` is the ceiling of whoever knows a person but not how they stand: the nuance's own box in another picture
of the same person, read as a map. Its chance is the box in a picture of another person. A box in its own picture
scores 100, so what lies between the ceiling and 100 is pose, and what lies below it is knowing people.
"""

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


def score_maps(maps: Tensor, activation: Tensor, boxes: Tensor, identities: Tensor) -> dict[str, Tensor]:
    """Every measure and reading of maps (N, P, h, w) and activation (N, h, w), each beside its chance: (K,) in percent.

    Names are `pointing_some_map`, `pointing_some_map_chance` …; without maps (P = 0) there are none of them.
    """
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
            region = regions(boxes, *responses.shape[-2:])
            by_chance = [read(measure(responses[other], region), visible) for other in pairings(len(maps))]
            scores[f"{measure.__name__}_{name}"] = 100 * read(measure(responses, region), visible)
            scores[f"{measure.__name__}_{name}_chance"] = 100 * torch.stack(by_chance).mean(dim=0)
        region = regions(boxes, *(maps if maps.shape[1] else activation).shape[-2:])
        ceiling, chance = _boxes_as_maps(measure, region, visible, identities)
        scores[f"{measure.__name__}_same_person"] = 100 * ceiling
        scores[f"{measure.__name__}_same_person_chance"] = 100 * chance
    return scores


def _boxes_as_maps(
    measure: Callable[[Tensor, Tensor], Tensor], region: Tensor, visible: Tensor, identities: Tensor
) -> tuple[Tensor, Tensor]:
    """A nuance's region in another picture, as a map of this one: of the same person (K,), and of another person."""
    means = []
    for others, same in ((pairings_within(identities), True), (pairings(len(region)), False)):
        found, seen = torch.zeros(region.shape[1]), torch.zeros(region.shape[1])
        for other in others:
            counts = visible & visible[other] & ((identities == identities[other]) == same)[:, None]
            counts &= (other != torch.arange(len(other)))[:, None]
            found += (measure(region[other].float(), region).diagonal(dim1=1, dim2=2) * counts).sum(dim=0)
            seen += counts.sum(dim=0)
        means.append(found / seen)  # NaN where there is no such pair
    return means[0], means[1]


def pairings(count: int) -> list[Tensor]:
    """Up to `SHIFTS` ways to give each of `count` images another one, never its own; the same in every call."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    place = order.argsort()
    return [order.roll(shift)[place] for shift in range(1, max(2, min(SHIFTS + 1, count)))]


def pairings_within(groups: Tensor) -> list[Tensor]:
    """Up to `SHIFTS` ways to give each row another of its group (N,), in so far as there is one; else its own.

    >>> pairings_within(torch.tensor([4, 9, 4]))[0]
    tensor([2, 1, 0])
    """
    shuffled = torch.randperm(len(groups), generator=torch.Generator().manual_seed(0))
    order = shuffled[groups[shuffled].argsort(stable=True)]  # group by group, each in random order
    sizes = groups.unique(return_counts=True)[1]
    size, start = sizes.repeat_interleave(sizes), (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    position, place = torch.arange(len(groups)) - start, order.argsort()
    shifts = range(1, max(2, min(SHIFTS + 1, int(sizes.max()))))
    return [order[start + torch.where(shift < size, (position + shift) % size, position)][place] for shift in shifts]


class NuanceScore(Metric):
    """Gathers maps and activations of a test set, over batches and ranks, and scores them; order does not matter."""

    full_state_update = False
    maps: list[Tensor]
    activation: list[Tensor]
    index: list[Tensor]

    def __init__(self, annotations: Annotations, identities: Tensor) -> None:
        super().__init__(dist_sync_fn=gather_chunks)
        self.annotations, self.identities = annotations, identities  # row by row the same catalogue's
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
        rows = torch.from_numpy(index)
        boxes = self.annotations.boxes[rows]
        scores = {"images": (~boxes.isnan().any(dim=2)).sum(dim=0).float()}
        scores |= score_maps(maps, activation, boxes, self.identities[rows])
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
