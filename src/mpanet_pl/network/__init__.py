"""Images to embeddings."""

from mpanet_pl.interfaces import Embedding as Embedding
from mpanet_pl.network.mpanet import MPANet as MPANet
