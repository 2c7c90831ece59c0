"""AGW (Ye et al., "Deep learning for person re-identification: a survey and outlook", TPAMI 2021), as released.

Two stems and a shared trunk with non-local blocks, generalised-mean pooling, a neck; identity loss and weighted
regularised triplet.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.interfaces import Embedding
from mpanet_pl.losses.functional import distances, distinct
from mpanet_pl.losses.terms import Extra, Terms, top_choice
from mpanet_pl.methods.triplet import triplet
from mpanet_pl.network.architecture import resnet_of
from mpanet_pl.network.stages import STAGES
from mpanet_pl.network.trunk import STEM, Trunk
from mpanet_pl.system.precision import precise
from mpanet_pl.system.ranges import Count, Place, Weight, checked
from mpanet_pl.trunks.two_streams import TwoStreams

LOOKING = {"layer2": 2, "layer3": 3}  # stage -> how many of its last blocks a non-local block follows
POWER = 3
SMALLEST_MEAN = 1e-12  # added to the mean of cubes
SMALLEST_SUM = 1e-6  # added to the sum that weights are divided by
STEM_KEYS = [
    (f"{released}.{part}.", f"network.trunk.{ours}{part}.")
    for released, ours in (("visible_module.visible", ""), ("thermal_module.thermal", "infrared."))
    for part in ("conv1", "bn1")
]
TRUNK_KEYS = [(f"base_resnet.base.{stage}.", f"network.trunk.{stage}.") for stage in STAGES]
HEAD_KEYS = [("bottleneck.", "network.neck."), ("classifier.", "criterion.classifier.")]
NON_LOCAL_KEYS = [
    (f"NL_{stage[-1]}.{block}.{released}", f"network.non_local.{stage}.{block}.{ours}")
    for stage, count in LOOKING.items()
    for block in range(count)
    for released, ours in (("g.0.", "g."), ("", ""))
]
RELEASED = [*STEM_KEYS, *TRUNK_KEYS, *NON_LOCAL_KEYS, *HEAD_KEYS]
DROPPED = [  # each of the three holds a whole ResNet, of which it uses a part
    *(
        f"{module}.{part}"
        for module in ("visible_module.visible", "thermal_module.thermal")
        for part in ("layer", "fc.")
    ),
    *(f"base_resnet.base.{part}." for part in ("conv1", "bn1", "fc")),
]


def architecture(ours: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the keys of a released state dict tell. The baseline, without non-local blocks, pools by the mean."""
    non_local = any(key.startswith("network.non_local.") for key in ours)
    network = {"trunk": resnet_of(ours), "non_local": non_local, "pooling": "gem" if non_local else "mean"}
    return {
        "network": {"_target_": f"{__name__}.AGW", "last_stride": 1, **network},
        "criterion": {"_target_": f"{__name__}.AGWLoss"},
    }


@checked
class AGW(nn.Module):
    """In training descriptors and embeddings as the losses see them; in evaluation both have unit length."""

    asks = ("infrared",)

    def __init__(
        self,
        *,
        trunk: str = "resnet50",
        pretrained: bool | Place | Path = True,
        last_stride: Count = 1,
        non_local: bool = True,
        pooling: Literal["mean", "gem"] = "gem",
    ) -> None:
        super().__init__()
        self.trunk = TwoStreams(trunk, pretrained=pretrained, last_stride=last_stride)
        self.pooling = generalised_mean if pooling == "gem" else mean
        self.non_local = looking(self.trunk, NonLocal) if non_local else nn.ModuleDict()
        self.dimension = self.trunk.channels
        self.neck = neck(self.dimension)

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Embedding:
        features = self.trunk.through([STEM], images, infrared)
        for stage in STAGES:
            features = through(self.trunk, stage, self.non_local, features)  # (B, C, h, w)
        descriptor = self.pooling(precise(features))  # (B, C)
        embedding = self.neck(descriptor)
        if not self.training:
            descriptor, embedding = F.normalize(descriptor), F.normalize(embedding)
        return Embedding(features[:, :0], descriptor, embedding)


def looking(trunk: Trunk, block: Callable[[int], nn.Module]) -> nn.ModuleDict:
    """A block of so many channels for each of the last blocks of the stages of `LOOKING`."""
    counts = {stage: len(getattr(trunk, stage)[-count:]) for stage, count in LOOKING.items()}
    return nn.ModuleDict(
        {stage: nn.ModuleList(block(trunk.channels_after(stage)) for _ in range(n)) for stage, n in counts.items()}
    )


def through(trunk: Trunk, stage: str, after: nn.ModuleDict, features: Tensor, *more: Any) -> Tensor:
    """Through a stage, whose last blocks are followed by those that `after` has: they get (features, *more)."""
    blocks, looks = getattr(trunk, stage), [*after[stage].children()] if stage in after else []
    for place, block in enumerate(blocks, start=len(looks) - len(blocks)):
        features = block(features)
        if place >= 0:
            features = looks[place](features, *more)
    return features


class NonLocal(nn.Module):
    """What every position sees of all others: x + BN(W y), y_i = θ_i · mean_j(φ_j g_j), without a softmax.

    The release halves no width: θ, φ and g have one channel, whatever `channels` is, so that y has rank one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(channels, 1, 1) for _ in range(3))
        self.W = nn.Sequential(nn.Conv2d(1, channels, 1), silent(nn.BatchNorm2d(channels)))

    def forward(self, features: Tensor) -> Tensor:
        theta, phi, g = (precise(seen(features)) for seen in (self.theta, self.phi, self.g))  # (B, 1, h, w) each
        return features + self.W(theta * (phi * g).mean((2, 3), keepdim=True))


class Classified(Terms):
    """Weighted terms. `identity`, the cross-entropy of a classifier behind the neck, and `triplet` are the base's."""

    def __init__(
        self, dimension: int, num_identities: int, extra: Extra | None, triplet_margin: float, **weights: float
    ) -> None:
        super().__init__(dimension, num_identities, extra)
        self.weights, self.triplet_margin = dict(weights), triplet_margin
        self.classifies = bool(weights["identity"])
        if self.classifies:
            self.classifier = nn.Linear(dimension, num_identities, bias=False)
            nn.init.normal_(self.classifier.weight, 0.0, 0.001)
        self.add_extra()
        if not any(self.weights.values()):
            raise UserError("every loss weight is 0: there is nothing to learn from")

    def own_terms(self, seen: Embedding, identities: Tensor, infrared: Tensor) -> dict[str, Tensor]:
        terms = {}
        if self.weights["identity"]:
            logits = self.classifier(seen.embedding)
            terms = {"identity": F.cross_entropy(logits, identities), **self.of_logits(logits, identities, infrared)}
        if self.weights["triplet"]:
            terms["triplet"] = triplet(seen.descriptor, identities, self.triplet_margin)
        return terms

    def of_logits(self, logits: Tensor, identities: Tensor, infrared: Tensor) -> dict[str, Tensor]:
        """Further terms of the classifier's logits (N, num_identities)."""
        return {}

    def accuracy(self, embedding: Tensor, identities: Tensor) -> Tensor | None:
        return top_choice(self.classifier, embedding, identities) if self.weights["identity"] else None


@checked
class AGWLoss(Classified):
    """Cross-entropy and the weighted regularised triplet; `triplet` weighs the batch-hard one of its baseline.

    Examples:
        >>> seen = Embedding(torch.rand(4, 0, 2, 2), torch.rand(4, 8), torch.rand(4, 8))
        >>> list(AGWLoss(8, 3)(seen, torch.tensor([0, 0, 2, 2]), torch.tensor([True, False, True, False])))
        ['identity', 'weighted_triplet', 'total']
    """

    def __init__(
        self,
        dimension: int,
        num_identities: Count,
        *,
        identity: Weight = 1.0,
        weighted_triplet: Weight = 1.0,
        triplet: Weight = 0.0,
        triplet_margin: Weight = 0.3,
        extra: Extra | None = None,
    ) -> None:
        weights = {"identity": identity, "weighted_triplet": weighted_triplet, "triplet": triplet}
        super().__init__(dimension, num_identities, extra, triplet_margin, **weights)

    def own_terms(self, seen: Embedding, identities: Tensor, infrared: Tensor) -> dict[str, Tensor]:
        terms = super().own_terms(seen, identities, infrared)
        if self.weights["weighted_triplet"]:
            terms["weighted_triplet"] = weighted_triplet(seen.descriptor, identities)
        return terms


def weighted_triplet(descriptors: Tensor, identities: Tensor) -> Tensor:
    """Weighted regularised triplet: mean of log(1 + exp(P − N)) (`weighted_distances`).

    >>> round(weighted_triplet(torch.tensor([[0.0], [1.0], [9.0], [9.5]]), torch.tensor([0, 0, 1, 1])).item(), 6)
    0.000346
    """
    positive, negative = weighted_distances(distinct(descriptors), identities)
    return softplus(positive - negative).mean().to(descriptors.dtype)


def weighted_distances(points: Tensor, identities: Tensor, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """Of each point (N, D) the weighted mean distances P to its identity, itself included, and N to others, (N,).

    The weights are softmaxes of α·d and −α·d, but for the 1e-6 in their denominators: where all others are far, the
    weights of N fade, and N with them.
    """
    apart = distances(points)
    same = identities[:, None] == identities
    return _weighted(apart, alpha * apart, same), _weighted(apart, -alpha * apart, ~same)


def _weighted(apart: Tensor, scores: Tensor, counts: Tensor) -> Tensor:
    scores = torch.where(counts, scores, 0)
    powers = torch.exp(scores - scores.amax(1, keepdim=True)) * counts  # the largest may be a 0 that does not count
    return (powers / (powers.sum(1, keepdim=True) + SMALLEST_SUM) * apart).sum(1)


def softplus(values: Tensor) -> Tensor:
    """log(1 + e^x) to the last digit, where torch's own turns linear above 20."""
    return -F.logsigmoid(-values)


def generalised_mean(features: Tensor) -> Tensor:  # (B, C, h, w) -> (B, C)
    return (features.pow(POWER).mean((2, 3)) + SMALLEST_MEAN).pow(1 / POWER)


def mean(features: Tensor) -> Tensor:  # (B, C, h, w) -> (B, C)
    return features.mean((2, 3))


def neck(dimension: int) -> nn.BatchNorm1d:
    """Batch normalisation whose bias stays 0."""
    layer = nn.BatchNorm1d(dimension)
    nn.init.normal_(layer.weight, 1.0, 0.01)
    layer.bias.requires_grad_(False)
    return layer


def silent(layer: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Says nothing at first: what it is added to begins unchanged."""
    nn.init.zeros_(layer.weight)
    return layer
