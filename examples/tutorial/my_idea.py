"""An idea: an image's descriptor is to lie near the same person's images in the other light."""

from torch import nn
from torch.nn.functional import normalize

from mpanet_pl.losses.functional import mean_where


class Meet(nn.Module):
    def forward(self, embedding, identities, infrared):
        descriptors = normalize(embedding.descriptor)  # (B, D)
        there = (identities[:, None] == identities) & (infrared[:, None] != infrared)  # (B, B)
        share = there.to(descriptors.dtype)
        centres = share @ descriptors / share.sum(1, keepdim=True).clamp(min=1)
        return mean_where((descriptors - centres).square().sum(1), there.any(1))
