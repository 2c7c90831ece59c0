"""Terms of one of several datasets: what `dataset=joint` trains on may weigh more in one dataset than in another."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mpanet_pl.data.joint import CAMERAS, whose
from mpanet_pl.errors import UserError
from mpanet_pl.interfaces import Embedding
from mpanet_pl.losses.terms import Terms
from mpanet_pl.system.ranges import Count, checked


@checked
class OfDataset(nn.Module):
    """The criterion's own terms once more, on the images of one dataset alone, weighted as the criterion weighs them.

        'model.criterion.extra={llcm: {_target_: mpanet_pl.methods.of_dataset.OfDataset, dataset: 2, weight: 0.5}}'

    In that run the total is L(batch) + 0.5 · L(images of the second dataset of `train_on`); the log has the latter as
    `train/llcm`. It is 0 in a batch without such images.

    Args:
        dataset: its place in `train_on`, from 1.
        terms: names of the criterion's terms; None: all of them.
    """

    def __init__(self, dataset: Count, terms: Sequence[str] | None = None) -> None:
        super().__init__()
        self.dataset, self.terms = dataset, terms

    def forward(
        self, embedding: Embedding, identities: Tensor, infrared: Tensor, *, cameras: Tensor, criterion: Terms
    ) -> Tensor:
        datasets, _ = whose(cameras, CAMERAS)  # (B,)
        rows = (datasets == self.dataset).nonzero().flatten()
        if not len(rows):
            if not datasets.any():
                raise UserError("OfDataset is for dataset=joint: these images are of one dataset.")
            return embedding.descriptor.new_zeros(())
        part = type(embedding)(*(column[rows] for column in embedding))
        found = criterion.own_terms(part, identities[rows], infrared[rows])
        chosen = list(found) if self.terms is None else list(self.terms)
        if not chosen or (unknown := [name for name in chosen if name not in found]):
            missing = ", ".join(unknown) if chosen else "terms of its own"
            raise UserError(f"OfDataset: the criterion has no {missing}; it has {', '.join(found) or 'none'}.")
        return torch.stack([criterion.weights[name] * found[name] for name in chosen]).sum()
