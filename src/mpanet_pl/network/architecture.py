"""What the keys and shapes of a state dict tell of the network that it belongs to."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mpanet_pl.errors import UserError

RESNETS = {  # (blocks of layer3, bottlenecks)
    (2, False): "resnet18",
    (6, False): "resnet34",
    (6, True): "resnet50",
    (23, True): "resnet101",
    (36, True): "resnet152",
}
TRUNK = "network.trunk."


def resnet_of(state: Mapping[str, Any]) -> str:
    """The torchvision ResNet that is the trunk.

    >>> resnet_of({f"network.trunk.layer3.{block}.conv1.weight": 0 for block in range(2)})
    'resnet18'
    """
    blocks = len({key.removeprefix(TRUNK).split(".")[1] for key in state if key.startswith(f"{TRUNK}layer3.")})
    depth = (blocks, f"{TRUNK}layer3.0.conv3.weight" in state)
    if depth not in RESNETS:
        raise UserError(f"the released checkpoint's layer3 has {blocks} blocks: no known ResNet")
    return RESNETS[depth]


def alleviated(state: Mapping[str, Any], prefix: str = f"{TRUNK}alleviation.") -> list[str]:
    """The stages that modality alleviation follows."""
    return sorted({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})


def rows(state: Mapping[str, Any], key: str) -> int:
    """The rows of a weight, 0 where there is no such weight."""
    value = state.get(key)
    return len(value) if isinstance(value, Tensor) and value.ndim else 0
