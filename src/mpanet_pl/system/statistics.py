"""Running statistics of batch normalisation."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Batch normalisation goes on, but its running statistics stay as they are."""
    rates = {layer: layer.momentum for layer in network.modules() if isinstance(layer, _BatchNorm)}
    try:
        for layer in rates:
            layer.momentum = 0.0
        yield
    finally:
        for layer, rate in rates.items():
            layer.momentum = rate
