"""Sibling accuracy: can embeddings tell apart, across modalities, identities that differ in one nuance alone?"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.world.annotations import Annotations
from mpanet_pl.world.nuance_score import by_name


def sibling_accuracy(
    embeddings: Tensor, catalogue: Catalogue, annotations: Annotations, name: str = "siblings"
) -> dict[str, float]:
    """How often the right sibling is ranked before the wrong one, per nuance that tells them apart: `name/nuance`.

    Every image of an identity with siblings is a query. Of all pairs of an image of its own identity and an image of a
    sibling, both in the other modality, those count where its own is the more similar by cosine (a tie counts half);
    averaged over pairs, then over queries, in percent. Chance is 50; 100 is out of reach where a nuance is hidden in
    some images.
    """
    rows = (annotations.siblings >= 0).nonzero().flatten()
    similarities = _cosine(embeddings[rows])
    catalogue, group, differs = catalogue[rows], annotations.siblings[rows], annotations.differs[rows]
    accuracy = torch.full((len(rows),), torch.nan)  # stays NaN where there is no such pair
    for identity in catalogue.identities.unique():
        own = catalogue.identities == identity
        wrong = (group == group[own][0]) & ~own
        for modality in (catalogue.infrared, ~catalogue.infrared):
            to_right = similarities[own & modality][:, own & ~modality]  # (q, r)
            to_wrong = similarities[own & modality][:, wrong & ~modality]  # (q, w)
            order = (to_right[:, :, None] - to_wrong[:, None, :]).sign()  # 1 right first, 0 tie, -1 wrong first
            accuracy[own & modality] = (order.mean(dim=(1, 2)) + 1) / 2
    per_nuance = torch.stack([accuracy[differs == k].nanmean() for k in range(len(annotations.nuances))])
    return by_name({name: 100 * per_nuance}, annotations.nuances)


def _cosine(embeddings: Tensor) -> Tensor:
    unit = normalize(embeddings.float(), dim=1)
    return (unit @ unit.T).cpu()
