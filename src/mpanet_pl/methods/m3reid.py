"""M3-ReID (video; released 2025): non-local blocks over a tracklet, masks in three views, alignment of modalities.

Every frame is an image with a row of its own; the frames of a tracklet follow one another. The embedding of a tracklet
is the mean over its frames.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.losses.functional import mean_where
from mpanet_pl.losses.terms import Extra, Terms, top_choice
from mpanet_pl.methods.agw import LOOKING, POWER, SMALLEST_MEAN, looking, through
from mpanet_pl.network.architecture import resnet_of
from mpanet_pl.network.mpanet import neck
from mpanet_pl.network.stages import STAGES
from mpanet_pl.network.trunk import STEM, Trunk
from mpanet_pl.system.precision import precise
from mpanet_pl.system.ranges import Count, Place, checked

VIEWS = ("hw", "tw", "th")  # which two of a tracklet's three axes the losses compare masks over
HEADS = 2
RELEASED = [
    *((f"NL_{stage[-1]}.", f"network.trunk.non_local.{stage}.") for stage in LOOKING),
    ("backbone.", "network.trunk."),
    *((f"mvl_attention.view_attention_{view}.", f"network.views.{view}.") for view in VIEWS),
    ("bn_neck.", "network.neck."),
    ("classifier_frame.", "criterion.frame_classifier."),
    ("classifier.", "criterion.classifier."),
]


def architecture(ours: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the keys of a released state dict tell."""
    network = {"_target_": f"{__name__}.M3ReID", "trunk": resnet_of(ours), "last_stride": 2}
    return {"network": network, "criterion": {"_target_": f"{__name__}.M3ReIDLoss"}}


class TrackletEmbedding(NamedTuple):
    """An `Embedding` of frames, and where each is in its tracklet."""

    maps: Tensor  # (B·T, 6, h, w) from 0 to 1: two heads of each view
    descriptor: Tensor  # (B·T, D)
    embedding: Tensor  # (B·T, D)
    place: Tensor  # (B·T, T), 1 at the frame's own number


@checked
class M3ReID(nn.Module):
    """Frames (B·T, 3, H, W) to rows of `dimension` = 6 · channels, by masks that nothing of the modality goes into."""

    asks = ("frames",)

    def __init__(self, *, trunk: str = "resnet50", pretrained: bool | Place = True, last_stride: Count = 2) -> None:
        super().__init__()
        self.trunk = TrackletTrunk(trunk, pretrained=pretrained, last_stride=last_stride)
        self.views = nn.ModuleDict({view: nn.Conv2d(self.trunk.channels, HEADS, 1) for view in VIEWS})
        self.dimension = self.trunk.channels * HEADS * len(VIEWS)
        self.neck = neck(self.dimension)

    def forward(self, images: Tensor, infrared: Tensor | None = None, *, frames: int = 1) -> TrackletEmbedding:
        features = self.trunk.of_tracklets(images, frames)  # (B·T, C, h, w)
        maps = torch.cat([self.views[view](features) for view in VIEWS], dim=1).sigmoid()
        with torch.autocast(features.device.type, enabled=False):  # cubes leave the range of float16
            cubes, shares = (precise(values).pow(POWER).flatten(2) for values in (features, maps))
            means = shares @ cubes.transpose(1, 2) / cubes.shape[2]  # (B·T, 6, C)
            descriptor = (means + SMALLEST_MEAN).pow(1 / POWER).flatten(1)
        place = torch.eye(frames, device=images.device).repeat(images.shape[0] // frames, 1)
        return TrackletEmbedding(maps, descriptor, self.neck(descriptor), place)


class TrackletTrunk(Trunk):
    """A ResNet whose last blocks of layer2 and layer3 are followed by a look at the whole tracklet."""

    def __init__(self, name: str, **keywords: Any) -> None:
        super().__init__(name, **keywords)
        self.non_local = looking(self, NonLocal)

    def of_tracklets(self, images: Tensor, frames: int) -> Tensor:
        if images.shape[0] % frames:
            raise UserError(f"{len(images)} images are no whole number of tracklets of {frames} frames.")
        features = self.through((STEM,), images)
        for stage in STAGES:
            features = through(self, stage, self.non_local, features, frames)
        return features


class NonLocal(nn.Module):
    """Each position of a tracklet sees all of its others, by a softmax without scaling (Wang et al., CVPR 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // 4
        self.theta, self.phi, self.g = (nn.Conv3d(channels, width, 1) for _ in range(3))
        self.W = nn.Sequential(nn.Conv3d(width, channels, 1), nn.BatchNorm3d(channels))
        for layer in (self.theta, self.phi, self.g, self.W[0]):
            nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.W[1].weight)  # type: ignore[arg-type]  # at first the block changes nothing

    def forward(self, features: Tensor, frames: int) -> Tensor:  # (B·T, C, h, w) -> the same
        tracklets = features.unflatten(0, (-1, frames)).transpose(1, 2)  # (B, C, T, h, w)
        query, key, value = (
            layer(tracklets).flatten(2).mT[:, None] for layer in (self.theta, self.phi, self.g)
        )  # (B, 1, T·h·w, C/4): ONNX knows attention by heads alone
        seen = F.scaled_dot_product_attention(query, key, value, scale=1.0)[:, 0].mT
        changed = self.W(seen.unflatten(2, tracklets.shape[2:])).transpose(1, 2)
        return features + changed.flatten(0, 1)


@checked
class M3ReIDLoss(Terms):
    """Identities and `alignment` of modalities, for tracklets and for frames; frames and heads of a view lie apart."""

    classifies = True

    def __init__(self, dimension: int, num_identities: Count, *, extra: Extra | None = None) -> None:
        super().__init__(dimension, num_identities, extra)
        names = ("identity", "identity_frame", "alignment", "alignment_frame", "frames_apart")
        self.weights = dict.fromkeys((*names, *(f"heads_apart_{view}" for view in VIEWS)), 1.0)
        self.classifier, self.frame_classifier = (nn.Linear(dimension, num_identities, bias=False) for _ in range(2))
        self.add_extra()

    def own_terms(self, seen: Any, identities: Tensor, infrared: Tensor) -> dict[str, Tensor]:
        z, frames = seen.embedding, seen.place.shape[1]
        tracklets = z.unflatten(0, (-1, frames))  # (B, T, D)
        mean, of_mean, infrared_mean = tracklets.mean(1), identities[::frames], infrared[::frames]
        heads = dict(
            zip(VIEWS, seen.maps.unflatten(0, (-1, frames)).split(HEADS, dim=2), strict=True)
        )  # (B, T, 2, h, w)
        return {
            "identity": F.cross_entropy(self.classifier(mean), of_mean),
            "identity_frame": F.cross_entropy(self.frame_classifier(z), identities),
            "alignment": alignment(mean, of_mean, infrared_mean),
            "alignment_frame": alignment(z, identities, infrared),
            "frames_apart": apart(tracklets),
            "heads_apart_hw": apart(heads["hw"].flatten(0, 1).flatten(2)),
            "heads_apart_tw": apart(heads["tw"].permute(0, 3, 2, 1, 4).flatten(0, 1).flatten(2)),
            "heads_apart_th": apart(heads["th"].permute(0, 4, 2, 1, 3).flatten(0, 1).flatten(2)),
        }

    def accuracy(self, embedding: Tensor, identities: Tensor) -> Tensor:
        return top_choice(self.frame_classifier, embedding, identities)


def apart(vectors: Tensor) -> Tensor:
    """Mean over (B, k, C) of the squared cosines of different vectors of a row; 0 for one vector a row.

    >>> apart(torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]))
    tensor(0.5000)
    """
    count = vectors.shape[1]
    cosines = F.normalize(vectors, dim=2) @ F.normalize(vectors, dim=2).transpose(1, 2)
    off = cosines.square().masked_fill(torch.eye(count, dtype=torch.bool, device=vectors.device), 0)
    return off.sum() / (len(vectors) * max(1, count * (count - 1)))


def alignment(vectors: Tensor, identities: Tensor, infrared: Tensor) -> Tensor:
    """How much farther matches are than mismatches in the other modality, in halved cosine distance.

    A mean over the rows of each modality that have both there, and over the modalities that have such rows.
    """
    unit = F.normalize(vectors, dim=1)
    distance = (1 - unit @ unit.T) / 2
    crossed = infrared[:, None] != infrared
    match, mismatch = crossed & (identities[:, None] == identities), crossed & (identities[:, None] != identities)
    near, far = ((distance * mask).sum(1) / mask.sum(1).clamp(min=1) for mask in (match, mismatch))
    counts = match.any(1) & mismatch.any(1)
    values = F.softplus(near - far)
    modalities = [counts & infrared, counts & ~infrared]
    means = torch.stack([mean_where(values, rows) for rows in modalities])
    return mean_where(means, torch.stack([rows.any() for rows in modalities]))
