"""The occlusion test: is it really the nuance that tells siblings apart?

With all hidden in which their pictures could differ, siblings should be told apart by luck alone. With as large a piece
of the person hidden elsewhere, they should be told apart as before. Rank-1 under occlusion would say nothing: it falls
whatever is hidden.
"""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.evaluation.metric import gather_chunks
from mpanet_pl.world.annotations import Annotations
from mpanet_pl.world.siblings import sibling_accuracy


def hide(images: Tensor, boxes: Tensor) -> Tensor:
    """Normalised images (B, C, H, W) with their boxes (B, 4) erased, as in training: 0. NaN hides nothing.

    A box grows by a pixel on each side, over which an image's resizing has smeared it.

    >>> hide(torch.ones(1, 1, 1, 6), torch.tensor([[0.5, 0.0, 0.7, 1.0]])).int().flatten().tolist()
    [1, 1, 0, 0, 0, 0]
    """
    *_, height, width = images.shape
    left, top, right, bottom = boxes.to(images.device)[:, :, None].unbind(dim=1)  # (B, 1) each
    y, x = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    rows = (y + 2 > top * height) & (y - 1 < bottom * height)  # (B, H)
    columns = (x + 2 > left * width) & (x - 1 < right * width)  # (B, W)
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def elsewhere(boxes: Tensor) -> Tensor:
    """As large a box in the same columns, amid the larger room above or below each (N, 4), where people are, too.

    >>> elsewhere(torch.tensor([[0.25, 0.0, 0.75, 0.25]])).tolist()
    [[0.25, 0.5, 0.75, 0.75]]
    """
    left, top, right, bottom = boxes.unbind(dim=-1)
    height = bottom - top
    middle = torch.where(top > 1 - bottom, top / 2, (1 + bottom) / 2)
    start = torch.minimum((middle - height / 2).clamp(min=0), 1 - height)
    return torch.stack([left, start, right, start + height], dim=-1)


class OcclusionScore(Metric):
    """Gathers embeddings of the images of siblings, with their difference hidden and with as much hidden elsewhere."""

    full_state_update = False
    hidden: list[Tensor]
    elsewhere: list[Tensor]
    index: list[Tensor]

    def __init__(self, annotations: Annotations, catalogue: Catalogue) -> None:
        super().__init__(dist_sync_fn=gather_chunks)
        self.annotations, self.catalogue = annotations, catalogue
        for name in ("hidden", "elsewhere", "index"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, hidden: Tensor, elsewhere: Tensor, index: Tensor) -> None:
        """Embeddings (B, D) of rows (B,) of the annotated catalogue."""
        self.hidden.append(hidden.detach().float())
        self.elsewhere.append(elsewhere.detach().float())
        self.index.append(index)

    def compute(self) -> dict[str, float]:
        """`siblings_hidden/nuance` and `siblings_elsewhere/nuance`, beside `siblings/nuance` of `sibling_accuracy`."""
        index, first = np.unique(dim_zero_cat(self.index).cpu().numpy(), return_index=True)
        rows = torch.from_numpy(index)
        told = self.catalogue[rows], self.annotations[rows]
        embeddings = {"hidden": self.hidden, "elsewhere": self.elsewhere}
        scores: dict[str, float] = {}
        for name, chunks in embeddings.items():
            scores |= sibling_accuracy(dim_zero_cat(chunks).cpu()[first], *told, name=f"siblings_{name}")
        return scores
