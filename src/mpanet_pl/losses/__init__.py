"""Embeddings and labels to named loss terms."""

from mpanet_pl.losses.criterion import MPANetLoss as MPANetLoss
from mpanet_pl.losses.terms import Terms as Terms
