"""MPANet's objective (sections 3.3 and 3.4): the classifiers, their mean twins, and the weight of every term."""

import copy

import torch
from torch import Tensor, nn

from mpanet_pl.errors import UserError
from mpanet_pl.interfaces import Embedding
from mpanet_pl.losses import functional
from mpanet_pl.losses.terms import Extra, Terms, top_choice
from mpanet_pl.system.ranges import Count, Share, Weight, checked


@checked
class MPANetLoss(Terms):
    """The paper's terms and their weighted `total`; a weight of 0 removes its term and what only that term needs.

    Args:
        identity: weight of the identity classifier's cross-entropy.
        modality_identity: weight of each modality's own classifier's cross-entropy.
        mutual: weight of the divergence of a modality's classifier from the mean twin of the other's.
        mean_rate: the rate at which the mean twins follow the modality classifiers at first, from 0 to 1.
        center_cluster: weight of the centre-cluster term; `margin` is what it wants between two identities' centres.
        separation: weight of the maps' inner products.
        extra: terms of your own by name (see `mpanet_pl.losses.terms.Terms`).

    Examples:
        >>> criterion = MPANetLoss(8, 3, mutual=0, separation=0)
        >>> seen = Embedding(torch.rand(4, 0, 2, 2), torch.rand(4, 8), torch.rand(4, 8))
        >>> terms = criterion(seen, torch.tensor([0, 0, 2, 2]), torch.tensor([True, False, True, False]))
        >>> list(terms)
        ['identity', 'identity_visible', 'identity_infrared', 'center_cluster', 'total']
    """

    def __init__(
        self,
        dimension: int,
        num_identities: Count,
        *,
        identity: Weight = 1.0,
        modality_identity: Weight = 1.0,
        mutual: Weight = 2.5,
        mean_rate: Share = 0.2,
        center_cluster: Weight = 1.0,
        margin: Weight = 0.7,
        separation: Weight = 0.5,
        extra: Extra | None = None,
    ) -> None:
        super().__init__(dimension, num_identities, extra)
        self.weights = {
            "identity": identity,
            "identity_visible": modality_identity,
            "identity_infrared": modality_identity,
            "mutual": mutual,
            "center_cluster": center_cluster,
            "separation": separation,
        }
        self.mean_rate, self.margin = mean_rate, margin
        self.classifies = any((identity, modality_identity, mutual))
        if identity:
            self.identity_classifier = nn.Linear(dimension, num_identities, bias=False)
        if modality_identity or mutual:
            self.visible_classifier = nn.Linear(dimension, num_identities, bias=False)
            self.infrared_classifier = nn.Linear(dimension, num_identities, bias=False)
        if mutual:
            self.visible_twin = _twin(self.visible_classifier)
            self.infrared_twin = _twin(self.infrared_classifier)
        self.add_extra()
        if not any(self.weights.values()):
            raise UserError("every loss weight is 0: there is nothing to learn from")

    def own_terms(self, seen: Embedding, identities: Tensor, infrared: Tensor) -> dict[str, Tensor]:
        weights, z, terms = self.weights, seen.embedding, {}
        if weights["identity"]:
            terms["identity"] = nn.functional.cross_entropy(self.identity_classifier(z), identities)
        if weights["identity_visible"] or weights["mutual"]:
            of_visible, of_infrared = self.visible_classifier(z), self.infrared_classifier(z)
        if weights["identity_visible"]:
            terms["identity_visible"] = functional.cross_entropy_where(of_visible, identities, ~infrared)
            terms["identity_infrared"] = functional.cross_entropy_where(of_infrared, identities, infrared)
        if weights["mutual"]:
            own, fixed = torch.where(infrared[:, None], of_infrared, of_visible), z.detach()
            other = torch.where(infrared[:, None], self.visible_twin(fixed), self.infrared_twin(fixed))
            terms["mutual"] = functional.divergence(own, other)
        if weights["center_cluster"]:
            terms["center_cluster"] = functional.center_cluster(seen.descriptor, identities, self.margin)
        if weights["separation"]:
            terms["separation"] = functional.separation(seen.maps)
        return terms

    @torch.no_grad()
    def follow(self, epoch: int) -> None:
        """Move the mean twins towards their classifiers: once before each optimiser step, epochs counted from 1."""
        if self.weights["mutual"]:
            rate = self.follow_rate(epoch)
            self.visible_twin.weight.lerp_(self.visible_classifier.weight, rate)
            self.infrared_twin.weight.lerp_(self.infrared_classifier.weight, rate)

    def follow_rate(self, epoch: int) -> float:
        """The rate at which the twins follow in an epoch, counted from 1.

        Examples:
            >>> [MPANetLoss(8, 3).follow_rate(epoch) for epoch in (1, 99, 199)]
            [0.2, 0.2, 0.1]
        """
        return self.mean_rate * min(100 / (epoch + 1), 1)

    def accuracy(self, embedding: Tensor, identities: Tensor) -> Tensor | None:
        return top_choice(self.identity_classifier, embedding, identities) if self.weights["identity"] else None


def _twin(classifier: nn.Linear) -> nn.Linear:
    """A copy that no gradient reaches."""
    return copy.deepcopy(classifier).requires_grad_(False)
