"""SAAI (Fang et al., ICCV 2023): learnt prototypes instead of convolutions say where to look, a neck for each modality.

The released code is the measure, as its command line runs it: seven prototypes, twins that follow at 0.02, and a weight
of the diversity that counts twice, inside the term and outside.
"""

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.interfaces import Embedding
from mpanet_pl.losses.functional import cross_entropy_where, distances, distinct, mean_where, separation
from mpanet_pl.losses.terms import Extra, Terms, top_choice
from mpanet_pl.network.architecture import alleviated, resnet_of, rows
from mpanet_pl.network.mpanet import MPANet, neck
from mpanet_pl.system.precision import precise
from mpanet_pl.system.ranges import Count, Share, Weight, checked

RELEASED = [
    *(
        (f"backbone.MAM{stage}.channel_attention.{position}.", f"network.trunk.alleviation.layer{stage}.{name}.")
        for stage in (3, 4)
        for position, name in ((0, "squeeze"), (2, "excite"))
    ),
    ("backbone.", "network.trunk."),
    ("attn_pool.part_tokens", "network.patterns.prototypes"),
    ("attn_pool.pos_embeding", "network.patterns.places"),
    ("bn_neck.bn_neck_v.", "network.neck.visible."),
    ("bn_neck.bn_neck_i.", "network.neck.infrared."),
    ("classifier.", "criterion.identity_classifier."),
    ("visible_classifier.", "criterion.visible_classifier."),
    ("infrared_classifier.", "criterion.infrared_classifier."),
    ("visible_classifier_.", "criterion.visible_twin."),
    ("infrared_classifier_.", "criterion.infrared_twin."),
]


def architecture(ours: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the keys and shapes of a released state dict tell."""
    network = {
        "_target_": f"{__name__}.SAAI",
        "trunk": resnet_of(ours),
        "last_stride": 1,
        "alleviation": alleviated(ours),
        "patterns": rows(ours, "network.patterns.prototypes"),
    }
    return {"network": network, "criterion": {"_target_": f"{__name__}.SAAILoss"}}


@checked
class SAAI(MPANet):
    """MPANet whose maps come from prototypes, with a neck for each modality, for images of `height` x `width`.

    Its other keywords are MPANet's; `dimension` is channels · (patterns + 1).
    """

    def __init__(self, *, height: Count, width: Count, patterns: Count = 7, **keywords: Any) -> None:
        super().__init__(patterns=0, **keywords)
        self.patterns = Prototypes(patterns, self.trunk.channels, _grid(self.trunk, height, width))
        self.dimension = self.trunk.channels * (patterns + 1)
        self.neck = Necks(self.dimension)  # type: ignore[assignment]  # one a modality
        self.asks = tuple({*self.asks, "infrared"})

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Embedding:
        features, maps = self.shows(images, infrared)  # (B, C, h, w), (B, P, h, w)
        descriptor = precise(self.pooling(features, maps))  # (B, D)
        return Embedding(maps, descriptor, self.neck(descriptor, infrared))


class Prototypes(nn.Module):
    """Maps (B, P, h, w): sigmoids of what P prototypes have in common with the features and their place.

    A place has an embedding of its own, so the grid of positions is fixed.
    """

    def __init__(self, patterns: int, channels: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.prototypes = nn.Parameter(torch.empty(patterns, channels))
        self.places = nn.Parameter(torch.empty(grid[0] * grid[1], channels))
        for weight in (self.prototypes, self.places):
            nn.init.kaiming_normal_(weight)

    def forward(self, features: Tensor) -> Tensor:  # (B, C, h, w) -> (B, P, h, w)
        if (grid := tuple(features.shape[2:])) != self.grid:
            raise UserError(f"SAAI has a place for each of {self.grid} positions, and images of this size have {grid}.")
        return (self.prototypes @ (features.flatten(2) + self.places.T)).sigmoid().unflatten(2, self.grid)


class Necks(nn.Module):
    """Batch normalisation by modality: in training each sees the rows of its own alone."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.visible, self.infrared = neck(dimension), neck(dimension)

    def forward(self, descriptor: Tensor, infrared: Tensor | None) -> Tensor:
        if infrared is None:
            raise UserError("SAAI has a neck for each modality: it needs to know which images are infrared.")
        if not self.training:
            return torch.where(infrared[:, None], self.infrared(descriptor), self.visible(descriptor))
        embedding = torch.empty_like(descriptor)
        for layer, own in ((self.visible, ~infrared), (self.infrared, infrared)):
            if own.any():  # this waits for the device
                embedding[own] = layer(descriptor[own])
        return embedding


def _grid(trunk: nn.Module, height: int, width: int) -> tuple[int, int]:
    """The last map's size for images of this size."""
    was_training = trunk.training
    with torch.no_grad():
        features = trunk.eval()(torch.zeros(1, 3, height, width), torch.zeros(1, dtype=torch.bool))
    trunk.train(was_training)
    return tuple(features.shape[2:])


def center_cluster(descriptors: Tensor, identities: Tensor, slack: float, margin: float) -> Tensor:
    """How far rows lie beyond `slack` from their identity's centre, and what centres lack to be `margin` apart.

    The second is a mean over identities of the mean over the rows of others.

    Examples:
        >>> descriptors = torch.tensor([[0.0, 3.0], [0.0, -3.0], [0.5, 0.0]])
        >>> center_cluster(descriptors, torch.tensor([7, 7, 2]), slack=0.3, margin=0.7)  # (2.7 + 2.7) / 3 + 0.2
        tensor(2.)
    """
    points = distinct(descriptors)
    same = identities[:, None] == identities  # (B, B)
    share = same.to(points.dtype)
    centres = share @ points / share.sum(1, keepdim=True)  # (B, D): the centre of each row's identity
    spread = (torch.linalg.vector_norm(points - centres, dim=1) - slack).relu().mean()
    lacking = (margin - distances(centres)).relu().masked_fill(same, 0)
    first = ~same.tril(-1).any(1)  # (B,): one row for each identity
    apart = mean_where(lacking.sum(1) / (~same).sum(1).clamp(min=1), first)
    return (spread + apart).to(descriptors.dtype)


def diversity(maps: Tensor) -> Tensor:
    """Mean over images and pairs of maps (B, P, h, w) of the root of their mean squared difference.

    Where two maps are equal the gradient is 0; the released code's is no number there.
    """
    flat = maps.flatten(2)
    one, other = torch.triu_indices(flat.shape[1], flat.shape[1], 1, device=maps.device)
    if not len(one):
        return flat.sum() * 0
    apart = torch.linalg.vector_norm(flat[:, one] - flat[:, other], dim=2)  # (B, pairs)
    return apart.mean() / flat.shape[2] ** 0.5


@checked
class SAAILoss(Terms):
    """SAAI's terms: classifiers, `exchange` with the other modality's twins, centres, and the `diversity` of the maps.

    Args:
        center_cluster: weight of the centres' term; rows within `slack` of their centre are not pulled, centres of two
            identities want to be `margin` apart.
        diversity: weight of the maps' term, which the term itself holds once more, as released.
        diversity_by: `distance`, or the release's other choice, `product`: the maps' mean inner product (see
            `mpanet_pl.losses.functional.separation`) + 1 − the maps' mean, which holds the weight once.
        mean_rate: rate at which the twins follow the modality classifiers until epoch 99, then falling.
        extra: terms of your own by name (see `mpanet_pl.losses.terms.Terms`).
    """

    classifies = True

    def __init__(
        self,
        dimension: int,
        num_identities: Count,
        *,
        center_cluster: Weight = 1.0,
        slack: Weight = 0.01,
        margin: Weight = 0.7,
        diversity: Weight = 0.5,
        diversity_by: Literal["distance", "product"] = "distance",
        mean_rate: Share = 0.02,
        extra: Extra | None = None,
    ) -> None:
        super().__init__(dimension, num_identities, extra)
        self.weights = dict.fromkeys(("identity", "identity_visible", "identity_infrared", "exchange"), 1.0)
        self.weights |= {"center_cluster": center_cluster, "diversity": diversity}
        self.slack, self.margin, self.mean_rate, self.diversity_by = slack, margin, mean_rate, diversity_by
        self.identity_classifier, self.visible_classifier, self.infrared_classifier = (
            nn.Linear(dimension, num_identities, bias=False) for _ in range(3)
        )
        self.visible_twin = copy.deepcopy(self.visible_classifier).requires_grad_(False)
        self.infrared_twin = copy.deepcopy(self.infrared_classifier).requires_grad_(False)
        self.add_extra()

    def own_terms(self, seen: Embedding, identities: Tensor, infrared: Tensor) -> dict[str, Tensor]:
        z, of_row = seen.embedding, infrared[:, None]
        of_visible, of_infrared = self.visible_classifier(z), self.infrared_classifier(z)
        own = torch.where(of_row, of_infrared, of_visible)
        other = torch.where(of_row, self.visible_twin(z), self.infrared_twin(z))
        return {
            "identity": F.cross_entropy(self.identity_classifier(z), identities),
            "identity_visible": cross_entropy_where(of_visible, identities, ~infrared),
            "identity_infrared": cross_entropy_where(of_infrared, identities, infrared),
            "exchange": F.cross_entropy(own, other.detach().softmax(1)),
            "center_cluster": center_cluster(seen.descriptor, identities, self.slack, self.margin),
            "diversity": self._diversity(seen.maps),
        }

    def _diversity(self, maps: Tensor) -> Tensor:
        if self.diversity_by == "distance":
            return -self.weights["diversity"] * diversity(maps)
        return separation(maps) + 1 - maps.mean()

    @torch.no_grad()
    def follow(self, epoch: int) -> None:
        rate = self.follow_rate(epoch)
        self.visible_twin.weight.lerp_(self.visible_classifier.weight, rate)
        self.infrared_twin.weight.lerp_(self.infrared_classifier.weight, rate)

    def follow_rate(self, epoch: int) -> float:
        return self.mean_rate * min(100 / (epoch + 1), 1)

    def accuracy(self, embedding: Tensor, identities: Tensor) -> Tensor:
        return top_choice(self.identity_classifier, embedding, identities)
