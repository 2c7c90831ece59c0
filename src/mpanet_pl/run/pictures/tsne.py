"""t-SNE (van der Maaten and Hinton, 2008), exact, for the few hundred points that a picture can hold.

It starts from the two principal components, so the same vectors give the same picture.
"""

import torch
from torch import Tensor

EARLY, EXAGGERATION = 250, 12.0


def tsne(vectors: Tensor, *, perplexity: float = 20.0, steps: int = 750) -> Tensor:
    """(N, D) -> (N, 2), neighbours staying neighbours; N above three times the perplexity, at most a few thousand."""
    vectors = vectors.double().cpu()
    wanted = neighbourhoods(torch.cdist(vectors, vectors).square(), perplexity)
    wanted = ((wanted + wanted.T) / (2 * len(vectors))).clamp(min=1e-12)
    places = principal_components(vectors)
    places = places / places[:, 0].std() * 1e-4
    velocity, gains = torch.zeros_like(places), torch.ones_like(places)
    rate = max(len(vectors) / EXAGGERATION, 50.0)
    for step in range(steps):
        early = step < EARLY
        nearness = 1 / (1 + torch.cdist(places, places).square())
        nearness.fill_diagonal_(0)
        pull = (wanted * (EXAGGERATION if early else 1.0) - nearness / nearness.sum()) * nearness
        slope = 4 * (pull.sum(dim=1, keepdim=True) * places - pull @ places)
        gains = torch.where(slope.sign() == velocity.sign(), gains * 0.8, gains + 0.2).clamp(min=0.01)
        velocity = (0.5 if early else 0.8) * velocity - rate * gains * slope
        places = places + velocity
    return (places - places.mean(dim=0)).float()


def principal_components(vectors: Tensor) -> Tensor:
    """(N, D) -> (N, 2), each component's sign such that its largest value is positive."""
    u, s, _ = torch.linalg.svd(vectors - vectors.mean(dim=0), full_matrices=False)
    components = (u * s)[:, :2]
    largest = components.gather(0, components.abs().argmax(dim=0, keepdim=True))
    return components * largest.sign()


def neighbourhoods(squared: Tensor, perplexity: float) -> Tensor:
    """Squared distances (N, N) -> each row's Gaussian weights of the others, as broad as the perplexity asks."""
    itself = torch.eye(len(squared), dtype=torch.bool)
    others = (squared / squared[~itself].mean()).masked_fill(itself, torch.inf)
    low, high = torch.full((len(squared), 1), -12.0).double(), torch.full((len(squared), 1), 12.0).double()
    for _ in range(40):  # bisect the logarithm of the precision
        middle = (low + high) / 2
        weights = torch.softmax(-others * middle.exp(), dim=1)
        entropy = torch.special.entr(weights).sum(dim=1, keepdim=True)
        narrow = entropy < torch.tensor(perplexity).log()
        low, high = low.where(narrow, middle), high.where(~narrow, middle)
    return weights
