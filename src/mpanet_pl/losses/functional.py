"""The mathematics of MPANet's losses (sections 3.3 and 3.4) as functions of tensors.

Shapes never depend on values, so that nothing waits for the device: an image outside a term has weight 0 in its
mean, an identity is counted at its first row, and a term that a batch leaves undefined is 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_SQUARE = 1e-12


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` holds; 0 where it holds nowhere.

    Examples:
        >>> mean_where(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False])).item()
        2.0
    """
    return torch.where(mask, values, 0).sum() / mask.sum().clamp(min=1)


def cross_entropy_where(logits: Tensor, identities: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy (B, C) against (B,) averaged over the rows of `mask`."""
    return mean_where(F.cross_entropy(logits, identities, reduction="none"), mask)


def divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """Mean over rows of KL(p ‖ q), p and q being the softmaxes of `logits` and `reference`, both (B, C)."""
    log_p, log_q = logits.log_softmax(1), reference.log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()


def separation(maps: Tensor) -> Tensor:
    """Mean over images and pairs of maps (B, P, h, w) of their inner product, not divided by the area."""
    flat = maps.flatten(2)  # (B, P, h·w)
    pairs = (flat @ flat.transpose(1, 2)).triu(1)  # (B, P, P)
    batch, patterns, _ = pairs.shape
    return pairs.sum() / (batch * max(1, patterns * (patterns - 1) // 2))


def center_cluster(descriptors: Tensor, identities: Tensor, margin: float) -> Tensor:
    """Distance of each descriptor (B, D) to its identity's centre, plus what centres lack to be `margin` apart.

    Examples:
        >>> descriptors = torch.tensor([[0.0, 3.0], [0.0, -3.0], [0.5, 0.0]])
        >>> center_cluster(descriptors, torch.tensor([7, 7, 2]), margin=0.7)  # (3 + 3 + 0) / 3 + (0.7 - 0.5)
        tensor(2.2000)
    """
    points = distinct(descriptors)
    same = identities[:, None] == identities  # (B, B)
    share = same.to(points.dtype)
    centres = share @ points / share.sum(1, keepdim=True)  # (B, D): the centre of each row's identity
    spread = torch.linalg.vector_norm(points - centres, dim=1).mean()
    first = ~same.tril(-1).any(1)  # (B,): one row for each identity
    overlap = (margin - distances(centres)).relu()
    return (spread + mean_where(overlap, first[:, None] & first & ~same)).to(descriptors.dtype)


def distances(points: Tensor) -> Tensor:
    """Euclidean distances (N, N) of points (N, D); gradients stay finite where points meet."""
    squares = points.square().sum(1)
    squared = squares[:, None] + squares - 2 * points @ points.T
    return squared.clamp(min=SMALLEST_SQUARE).sqrt()


def distinct(points: Tensor) -> Tensor:
    """Points in float64: a distance from inner products is a small difference of large numbers.

    It also keeps the products out of TF32. Apple's GPUs have no float64 and stay with float32.
    """
    return points.float() if points.device.type == "mps" else points.double()
