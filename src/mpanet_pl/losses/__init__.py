"""Embeddings and labels to named loss terms."""

from mpanet_pl.losses.criterion import MPANetLoss as MPANetLoss
