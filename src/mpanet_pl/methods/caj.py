"""CAJ (Ye et al., "Channel augmented joint learning for visible-infrared recognition", ICCV 2021), as released.

AGW's network; the augmentation is `mpanet_pl.data.Augmentation(caj=True)`, whose second view of the visible images is
the third stream.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mpanet_pl.interfaces import Embedding
from mpanet_pl.losses.functional import distinct
from mpanet_pl.losses.terms import Extra
from mpanet_pl.methods import agw
from mpanet_pl.methods.agw import AGW, Classified, softplus, weighted_distances
from mpanet_pl.methods.agw import DROPPED as DROPPED
from mpanet_pl.methods.agw import RELEASED as RELEASED
from mpanet_pl.system.ranges import Count, Weight, checked

LARGEST_SQUARE = 88.0  # above, the release's float32 exponential overflows; the gradient is 0 there
TEMPERATURE = 3.0
SMALLEST_SHARE = 1e-7  # added to the teacher's shares, which then sum to a little more than 1


def architecture(ours: Mapping[str, Tensor]) -> dict[str, Any]:
    """AGW's, but for the two classes."""
    network = {**agw.architecture(ours)["network"], "_target_": f"{__name__}.CAJ"}
    return {"network": network, "criterion": {"_target_": f"{__name__}.CAJLoss"}}


class CAJ(AGW):
    """In evaluation, unit vectors of the image and its mirror image are averaged, and brought to unit length again."""

    def forward(self, images: Tensor, infrared: Tensor | None = None) -> Embedding:
        seen = super().forward(images, infrared)
        if self.training:
            return seen
        mirrored = super().forward(images.flip(3), infrared)
        both = zip(seen[1:], mirrored[1:], strict=True)
        return Embedding(seen.maps, *(F.normalize((one + other) / 2) for one, other in both))


@checked
class CAJLoss(Classified):
    """Cross-entropy and the adaptive triplet of all rows; `kl` weighs a term that is logged at weight 0, too.

    `alpha`, `gamma` and `square` are `adaptive_triplet`'s.
    """

    def __init__(
        self,
        dimension: int,
        num_identities: Count,
        *,
        identity: Weight = 1.0,
        adaptive_triplet: Weight = 1.0,
        alpha: Weight = 1.0,
        gamma: Weight = 1.0,
        square: bool = True,
        triplet: Weight = 0.0,
        triplet_margin: Weight = 0.3,
        kl: Weight = 0.0,
        extra: Extra | None = None,
    ) -> None:
        weights = {"identity": identity, "adaptive_triplet": adaptive_triplet, "triplet": triplet, "kl": kl}
        super().__init__(dimension, num_identities, extra, triplet_margin, **weights)
        self.alpha, self.gamma, self.square = alpha, gamma, square

    def own_terms(self, seen: Embedding, identities: Tensor, infrared: Tensor) -> dict[str, Tensor]:
        terms = super().own_terms(seen, identities, infrared)
        if self.weights["adaptive_triplet"]:
            terms["adaptive_triplet"] = adaptive_triplet(
                seen.descriptor, identities, alpha=self.alpha, gamma=self.gamma, square=self.square
            )
        return terms

    def of_logits(self, logits: Tensor, identities: Tensor, infrared: Tensor) -> dict[str, Tensor]:
        return {"kl": divergence(logits if self.weights["kl"] else logits.detach(), identities, infrared)}


def adaptive_triplet(
    descriptors: Tensor, identities: Tensor, *, alpha: float = 1.0, gamma: float = 1.0, square: bool = True
) -> Tensor:
    """The weighted triplet by x = min(γ (P − N)², 88): mean of log(1 + e^x) where P > N, of log(1 + e^−x) elsewhere.

    Without `square` x = γ (P − N), and its mean of log(1 + e^x) is AGW's at α = γ = 1.
    """
    positive, negative = weighted_distances(distinct(descriptors), identities, alpha)
    gap = positive - negative
    squared = (gamma * gap.square()).clamp(max=LARGEST_SQUARE) * torch.where(gap > 0, 1, -1)
    return softplus(squared if square else gamma * gap).mean().to(descriptors.dtype)


def divergence(logits: Tensor, identities: Tensor, infrared: Tensor) -> Tensor:
    """How far a visible image's classification is from that of its infrared partner, which is held constant.

    An identity's first infrared row is the partner of its first visible row, and so on. Visible rows beyond those, the
    augmented ones, have none.
    """
    same = (identities[:, None] == identities) & (infrared[:, None] == infrared)
    turn = same.tril(-1).sum(1)  # how many rows of its identity and modality came before
    partner = (identities[:, None] == identities) & (turn[:, None] == turn) & ~infrared[:, None] & infrared  # (N, N)
    shares = (logits.detach() / TEMPERATURE).softmax(1) + SMALLEST_SHARE
    taught = partner.to(shares.dtype) @ shares  # (N, C), 0 where a row has no partner
    learnt = (logits / TEMPERATURE).log_softmax(1)
    rows = torch.special.xlogy(taught, taught).sum(1) - (taught * learnt).sum(1)
    return TEMPERATURE**2 * rows.sum() / partner.sum().clamp(min=1)
