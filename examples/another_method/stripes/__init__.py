"""A two-stream network of stripes with the hetero-centre loss (Zhu et al., Neurocomputing 2020), in its outline."""

import torch
import torch.nn.functional as F
from torch import nn

from mpanet_pl.interfaces import Embedding
from mpanet_pl.losses import Terms
from mpanet_pl.trunks.two_streams import TwoStreams


class Stripes(nn.Module):
    """The map is cut into horizontal stripes; each has a narrow vector of its own, and an embedding holds them all."""

    asks = ("infrared",)  # the stems are told which images are infrared

    def __init__(self, *, trunk="resnet50", pretrained=True, last_stride=1, stripes=6, width=256):
        super().__init__()
        self.trunk = TwoStreams(trunk, pretrained=pretrained, last_stride=last_stride)
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.Linear(self.trunk.channels, width, bias=False), nn.BatchNorm1d(width))
            for _ in range(stripes)
        )
        self.dimension = stripes * width

    def forward(self, images, infrared=None):
        features = self.trunk(images, infrared)  # (B, C, h, w)
        pooled = F.adaptive_avg_pool2d(features, (len(self.narrow), 1)).flatten(2)  # (B, C, stripes)
        parts = [layer(pooled[..., number]) for number, layer in enumerate(self.narrow)]
        embedding = torch.cat(parts, dim=1)
        return Embedding(features[:, :0], embedding, embedding)  # no maps, no neck


class StripesLoss(Terms):
    """A classifier for each stripe, and the distance between each identity's visible and infrared centre."""

    classifies = True

    def __init__(self, dimension, num_identities, *, identity=1.0, hetero_center=0.5, stripes=6, extra=None):
        super().__init__(dimension, num_identities, extra)
        self.weights = {"identity": identity, "hetero_center": hetero_center}
        width = dimension // stripes
        self.classifiers = nn.ModuleList(nn.Linear(width, num_identities, bias=False) for _ in range(stripes))
        self.add_extra()

    def own_terms(self, seen, identities, infrared):
        parts = seen.embedding.chunk(len(self.classifiers), dim=1)
        classified = [
            F.cross_entropy(layer(part), identities) for layer, part in zip(self.classifiers, parts, strict=True)
        ]
        return {
            "identity": torch.stack(classified).sum(),
            "hetero_center": torch.stack([hetero_center(part, identities, infrared) for part in parts]).sum(),
        }


def hetero_center(vectors, identities, infrared):
    """Mean over rows of the squared distance between the two centres of their identity; 0 without one of them."""
    same = identities[:, None] == identities
    visible, thermal = (same & rows for rows in (~infrared, infrared))
    centres = [rows.to(vectors.dtype) @ vectors / rows.sum(1, keepdim=True).clamp(min=1) for rows in (visible, thermal)]
    both = visible.any(1) & thermal.any(1)
    return ((centres[0] - centres[1]).square().sum(1) * both).mean()
