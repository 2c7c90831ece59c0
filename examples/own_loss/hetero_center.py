"""The hetero-centre triplet loss (Liu, Tan and Zhou, 2020): people's centres in both modalities, hardest pairs alone.

An identity's visible and infrared centre are to be `margin` nearer to each other than to any other identity's centre.
"""

import torch
from torch import nn

from mpanet_pl.losses.functional import distances, mean_where


class HeteroCenterTriplet(nn.Module):
    def __init__(self, margin=0.3):
        super().__init__()
        self.margin = margin

    def forward(self, embedding, identities, infrared):
        same = identities[:, None] == identities  # (B, B)
        alike = same & (infrared[:, None] == infrared)
        share = alike.to(embedding.descriptor.dtype)
        centres = share @ embedding.descriptor / share.sum(1, keepdim=True)  # (B, D): of each row's identity and light
        apart = distances(centres)
        to_own = apart.masked_fill(alike | ~same, -torch.inf).amax(1)  # the other modality's centre
        to_others = apart.masked_fill(same, torch.inf).amin(1)
        first = ~alike.tril(-1).any(1)  # one row for each centre
        complete = (same & ~alike).any(1) & ~same.all(1)
        return mean_where((self.margin + to_own - to_others).relu(), first & complete)
