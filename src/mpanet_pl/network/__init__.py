"""Images to embeddings."""

from mpanet_pl.network.mpanet import Embedding as Embedding
from mpanet_pl.network.mpanet import MPANet as MPANet
