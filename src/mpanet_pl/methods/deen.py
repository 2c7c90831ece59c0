"""DEEN (Zhang and Wang, "Diverse embedding expansion network and low-light cross-modality benchmark", CVPR 2023).

After each stage a multistage feature aggregation (MFA) with what the stage began with; before the last
stage a diverse embedding expansion (DEE) that triples the rows of the batch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.interfaces import Embedding
from mpanet_pl.losses.functional import SMALLEST_SQUARE, distances, distinct, mean_where
from mpanet_pl.losses.terms import Extra
from mpanet_pl.methods.agw import DROPPED as DROPPED
from mpanet_pl.methods.agw import HEAD_KEYS, STEM_KEYS, TRUNK_KEYS, Classified, neck, silent
from mpanet_pl.network.architecture import resnet_of
from mpanet_pl.network.stages import STAGES
from mpanet_pl.network.trunk import STEM
from mpanet_pl.system.precision import precise
from mpanet_pl.system.ranges import Count, Place, Weight, checked
from mpanet_pl.trunks.two_streams import TwoStreams

BRANCHES = 3
DILATIONS = (1, 2, 3)
DROPPED_SHARE = 0.01
CENTRE_MARGIN = 0.2
AGGREGATION_KEYS = [(f"MFA{number}.", f"network.aggregations.layer{number}.") for number in (1, 2, 3)]
EXPANSION_KEYS = [
    (f"DEE.FC{branch}{layer}.", f"network.expansion.{branch - 1}.{ours}.")
    for branch in (1, 2)
    for layer, ours in (("1", "narrow.0"), ("2", "narrow.1"), ("3", "narrow.2"), ("", "widen"))
]
RELEASED = [*STEM_KEYS, *TRUNK_KEYS, *AGGREGATION_KEYS, *EXPANSION_KEYS, *HEAD_KEYS]


def unused(released: Mapping[str, Any]) -> tuple[str, ...]:
    """Prefixes of further weights that the release stores and never uses: in RegDB's network, layer4."""
    return () if any(key.startswith("MFA3.") for key in released) else ("base_resnet.base.layer4.",)


def architecture(ours: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the keys of a released state dict tell."""
    stages = 4 if any(key.startswith("network.aggregations.layer3.") for key in ours) else 3
    return {
        "network": {"_target_": f"{__name__}.DEEN", "trunk": resnet_of(ours), "last_stride": 1, "stages": stages},
        "criterion": {"_target_": f"{__name__}.DEENLoss"},
    }


@checked
class DEEN(nn.Module):
    """In training three rows an image, branch by branch; in evaluation one vector, six times as wide.

    `stages` is how many the trunk keeps: 4, or RegDB's 3. In evaluation the six vectors (descriptor and embedding of
    each branch) have unit length, and those of the mirror image are added. The inner products of `embedding` are the
    release's first score, those of `descriptor` its second, where descriptors weigh 0.1 and embeddings 0.9.
    """

    asks = ("infrared",)
    branches = BRANCHES

    def __init__(
        self,
        *,
        trunk: str = "resnet50",
        pretrained: bool | Place | Path = True,
        last_stride: Count = 1,
        stages: Literal[3, 4] = 4,
    ) -> None:
        super().__init__()
        self.trunk = TwoStreams(trunk, pretrained=pretrained, last_stride=last_stride)
        *self.before, self.last = STAGES[:stages]
        for stage in STAGES[stages:]:
            delattr(self.trunk, stage)
        widths = [self.trunk.conv1.out_channels, *map(self.trunk.channels_after, self.before)]
        self.aggregations = nn.ModuleDict()
        for stage, low, high in zip(self.before, widths, widths[1:], strict=False):
            self.aggregations[stage] = Aggregation(high, low, stride=1 if stage == STAGES[0] else 2)
        self.expansion = nn.ModuleList(Branch(widths[-1]) for _ in range(BRANCHES - 1))
        self.dropout = nn.Dropout(DROPPED_SHARE)
        self.dimension = self.trunk.channels_after(self.last)
        self.neck = neck(self.dimension)

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Embedding:
        features, descriptor, embedding = self._see(images, infrared)
        if self.training:
            return Embedding(features[:, :0], descriptor, embedding)
        mirrored = self._see(images.flip(3), infrared)[1:]
        pairs = zip((descriptor, embedding), mirrored, strict=True)
        both = [(F.normalize(one) + F.normalize(other)).unflatten(0, (BRANCHES, -1)) for one, other in pairs]
        six = [vector for branch in zip(*both, strict=True) for vector in branch]  # each branch's descriptor, embedding
        shares = [0.1, 0.9] * BRANCHES
        weighted = [share**0.5 * vector for share, vector in zip(shares, six, strict=True)]
        return Embedding(features.unflatten(0, (BRANCHES, -1))[0, :, :0], torch.cat(weighted, 1), torch.cat(six, 1))

    def _see(self, images: Tensor, infrared: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        features = self.trunk.through([STEM], images, infrared)
        for stage in self.before:
            features = self.aggregations[stage](self.trunk.through([stage], features), features)
        expanded = torch.cat([features, *(branch(features) for branch in self.expansion)])  # (3 · B, C, h, w)
        features = self.trunk.through([self.last], self.dropout(expanded))
        descriptor = precise(features).mean((2, 3))  # (3 · B, C)
        return features, descriptor, self.neck(descriptor)


class Aggregation(nn.Module):
    """High features, which a stage made, look at the low ones that it began with: by channels, then by positions."""

    def __init__(self, high: int, low: int, stride: int) -> None:
        super().__init__()
        self.CNL, self.PNL = ByChannels(high, low, stride), ByPositions(high, low, stride)

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        return self.PNL(self.CNL(high, low), low)


class ByChannels(nn.Module):
    """z = x_h + W(E g), where E = θ φᵀ / l says how alike two of the l channels are, over positions."""

    def __init__(self, high: int, low: int, stride: int) -> None:
        super().__init__()
        self.theta, self.g = nn.Conv2d(high, low, 1), nn.Conv2d(low, low, 1)
        self.phi = nn.Conv2d(low, low, 1, stride)
        self.W = nn.Sequential(nn.Conv2d(low, high, 1, stride), silent(nn.BatchNorm2d(high)))

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        theta, phi, g = self.theta(high).flatten(2), self.phi(low).flatten(2), self.g(low).flatten(2)  # (B, l, h·w)
        alike = theta @ phi.transpose(1, 2) / low.shape[1]  # (B, l, l)
        return high + self.W((alike @ g).view_as(low))


class ByPositions(nn.Module):
    """z = x_h + W(Y), where the l/2 channels of θ, φ and g are cut into an upper and a lower half of the picture.

    As released: l rows of half as many positions each, row 2c the first half of channel c, row 2c + 1 the second.
    """

    def __init__(self, high: int, low: int, stride: int) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(width, low // 2, 1) for width in (high, low, low))
        self.W = nn.Sequential(nn.Conv2d(low // 2, high, 1), silent(nn.BatchNorm2d(high)))

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        theta, phi, g = (_halved(seen) for seen in (self.theta(high), self.phi(low), self.g(low)))  # (B, l, h·w / 2)
        alike = theta.transpose(1, 2) @ phi / phi.shape[2]  # (B, high's, low's)
        seen = g @ alike.transpose(1, 2)  # (B, l, high's)
        return high + self.W(seen.unflatten(1, (-1, 2)).flatten(2).unflatten(2, high.shape[2:]))


def _halved(features: Tensor) -> Tensor:
    batch, channels, height, width = features.shape
    if height * width % 2:
        raise UserError(
            f"DEEN cuts feature maps into halves, and one of {height} x {width} has none: choose another image size "
            "(data.height, data.width), such as multiples of 32."
        )
    return features.reshape(batch, 2 * channels, height * width // 2)


class Branch(nn.Module):
    """Another embedding of the same image: three dilated convolutions' mean, narrow, and back to the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(
            nn.Conv2d(channels, channels // 4, 3, padding=rate, dilation=rate, bias=False) for rate in DILATIONS
        )
        self.widen = nn.Conv2d(channels // 4, channels, 1)
        for layer in (*self.narrow, self.widen):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, features: Tensor) -> Tensor:
        return self.widen(torch.stack([layer(features) for layer in self.narrow]).mean(0).relu())


@checked
class DEENLoss(Classified):
    """Cross-entropy and batch-hard triplet of all rows, centre-guided pairs and orthogonality of the branches."""

    def __init__(
        self,
        dimension: int,
        num_identities: Count,
        *,
        identity: Weight = 1.0,
        triplet: Weight = 1.0,
        triplet_margin: Weight = 0.3,
        pairs: Weight = 0.8,
        orthogonality: Weight = 0.01,
        extra: Extra | None = None,
    ) -> None:
        weights = {"identity": identity, "triplet": triplet, "orthogonality": orthogonality}
        weights |= {f"pairs_{branch}": pairs for branch in range(1, BRANCHES)}
        super().__init__(dimension, num_identities, extra, triplet_margin, **weights)

    def own_terms(self, seen: Embedding, identities: Tensor, infrared: Tensor) -> dict[str, Tensor]:
        weights, terms = self.weights, super().own_terms(seen, identities, infrared)
        original, *branches = seen.descriptor.chunk(BRANCHES)
        rows = identities[: len(original)], infrared[: len(original)]
        for number, branch in enumerate(branches, 1):
            if weights[f"pairs_{number}"]:
                terms[f"pairs_{number}"] = centre_pairs(original, branch, *rows)
        if weights["orthogonality"]:
            terms["orthogonality"] = (branches[0] * branches[1]).sum() / len(seen.descriptor)
        return terms


def centre_pairs(original: Tensor, branch: Tensor, identities: Tensor, infrared: Tensor) -> Tensor:
    """Centre-guided pair mining (CPM) of rows (N, D); identities with rows of one modality alone do not count.

    An identity's centres are v, i of the original's visible and infrared rows, and V, I of the branch's.
    """
    same = identities[:, None] == identities
    v, V = (_centres(distinct(rows), same & ~infrared) for rows in (original, branch))  # (N, D): each row's identity's
    i, I = (_centres(distinct(rows), same & infrared) for rows in (original, branch))  # noqa: E741
    whole = (same & infrared).any(1) & (same & ~infrared).any(1)
    counted = whole & ~(same.tril(-1)).any(1)  # one row for each identity

    def nearest(centres: Tensor) -> Tensor:
        return distances(centres).masked_fill(same | ~whole, torch.inf).amin(1)

    def hinge(near: Tensor, far: Tensor) -> Tensor:
        return mean_where((near - far + CENTRE_MARGIN).relu(), counted)

    i_V, v_I = _apart(i, V), _apart(v, I)
    first = hinge(i_V, _apart(v, V).detach()) + (hinge(i_V, nearest(V)) + hinge(i_V, nearest(v))) / 2
    second = hinge(v_I, _apart(i, I).detach()) + (hinge(v_I, nearest(I)) + hinge(v_I, nearest(i))) / 2
    return ((first + second) / 2).to(original.dtype)


def _centres(points: Tensor, of: Tensor) -> Tensor:  # (N, D) of the points that each row of `of` (N, N) holds
    share = of.to(points.dtype)
    return share @ points / share.sum(1, keepdim=True).clamp(min=1)


def _apart(one: Tensor, other: Tensor) -> Tensor:  # (N, D), (N, D) -> (N,)
    return (one - other).square().sum(1).clamp(min=SMALLEST_SQUARE).sqrt()
