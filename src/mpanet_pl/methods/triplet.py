"""The batch-hard triplet loss (Hermans et al., 2017), which most baselines of the field train with."""

import torch
from torch import Tensor, nn

from mpanet_pl.interfaces import Embedding
from mpanet_pl.losses.functional import distances, distinct, mean_where
from mpanet_pl.losses.terms import check_amounts


class Triplet(nn.Module):
    """The descriptors' batch-hard triplet loss as a term: `model.criterion.extra`."""

    def __init__(self, margin: float = 0.3) -> None:
        super().__init__()
        check_amounts({"margin": margin})
        self.margin = margin

    def forward(self, embedding: Embedding, identities: Tensor, infrared: Tensor) -> Tensor:
        return triplet(embedding.descriptor, identities, self.margin)


def triplet(descriptors: Tensor, identities: Tensor, margin: float) -> Tensor:
    """Each row's farthest positive against its nearest negative, averaged over the rows that have both in the batch."""
    apart = distances(distinct(descriptors))  # (B, B)
    same = identities[:, None] == identities
    others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    farthest = apart.masked_fill(~others, -torch.inf).amax(1)
    nearest = apart.masked_fill(same, torch.inf).amin(1)
    return mean_where((margin + farthest - nearest).relu(), others.any(1) & ~same.all(1)).to(descriptors.dtype)
