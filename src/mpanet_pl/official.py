"""Checkpoints of the released MPANet code: their keys renamed to this package's, and back.

A released file is a bare state dict, sometimes with every key behind `module.`. It stores neither the last stride nor
the size of the images.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.module import MPANetModule
from mpanet_pl.system import weights

PREFIXES = [  # (released, ours), the first that fits
    *(
        (f"backbone.MAM{stage}.channel_attention.{position}.", f"network.trunk.alleviation.layer{stage}.{name}.")
        for stage in (1, 2, 3, 4)
        for position, name in ((0, "squeeze"), (2, "excite"))
    ),
    ("backbone.", "network.trunk."),
    ("spatial_attention.", "network.patterns.attention."),
    ("bn_neck.", "network.neck."),
    ("classifier.", "criterion.identity_classifier."),
    ("visible_classifier.", "criterion.visible_classifier."),
    ("infrared_classifier.", "criterion.infrared_classifier."),
    ("visible_classifier_.", "criterion.visible_twin."),
    ("infrared_classifier_.", "criterion.infrared_twin."),
]
RESNETS = {  # (blocks of layer3, bottlenecks)
    (2, False): "resnet18",
    (6, False): "resnet34",
    (6, True): "resnet50",
    (23, True): "resnet101",
    (36, True): "resnet152",
}


def from_official(state: Mapping[str, Any]) -> dict[str, Any]:
    """A released state dict under this package's keys; the values are the same objects, unknown keys stay as they are.

    Examples:
        >>> from_official({"module.backbone.conv1.weight": 1, "visible_classifier_.weight": 2})
        {'network.trunk.conv1.weight': 1, 'criterion.visible_twin.weight': 2}
    """
    return {_renamed(key.removeprefix("module."), PREFIXES): value for key, value in state.items()}


def to_official(state: Mapping[str, Any]) -> dict[str, Any]:
    """The way back.

    Examples:
        >>> to_official({"network.trunk.alleviation.layer3.squeeze.weight": 1})
        {'backbone.MAM3.channel_attention.0.weight': 1}
    """
    return {_released_name(key): value for key, value in state.items()}


def _released_name(key: str) -> str:
    return _renamed(key, [(ours, released) for released, ours in PREFIXES])


def _renamed(key: str, prefixes: Sequence[tuple[str, str]]) -> str:
    return next((new + key.removeprefix(old) for old, new in prefixes if key.startswith(old)), key)


def is_official(state: Mapping[str, object]) -> bool:
    """Whether the content of a file is that of a released checkpoint."""
    return any(str(key).removeprefix("module.").startswith(("backbone.", "bn_neck.")) for key in state)


def module_from_official(state: Mapping[str, Any], *, last_stride: int = 1) -> MPANetModule:
    """The module whose architecture the keys and shapes of a released state dict tell, with its weights."""
    ours = from_official(state)
    module = MPANetModule(
        max(1, _identities(ours)),
        network={**_network(ours), "pretrained": False, "last_stride": last_stride},
        criterion=_criterion(ours),
        optimizer={"lr": 3.5e-4, "weight_decay": 5e-4},
        schedule={"milestones": [80, 120]},
    )
    weights.load_exactly(module, ours, "the released checkpoint", named=_released_name)
    return module


def _network(ours: Mapping[str, Tensor]) -> dict[str, Any]:
    depth = (_blocks_of_layer3(ours), "network.trunk.layer3.0.conv3.weight" in ours)
    if depth not in RESNETS:
        raise UserError(f"the released checkpoint's layer3 has {depth[0]} blocks: no known ResNet")
    return {
        "trunk": RESNETS[depth],
        "alleviation": sorted({key.split(".")[3] for key in ours if key.startswith("network.trunk.alleviation.")}),
        "patterns": _rows("network.patterns.attention.weight", ours),
    }


def _blocks_of_layer3(ours: Mapping[str, Tensor]) -> int:
    return len({key.split(".")[3] for key in ours if key.startswith("network.trunk.layer3.")})


def _criterion(ours: Mapping[str, Tensor]) -> dict[str, float]:
    """The losses whose parameters are there, at weight 1: what cannot be seen in a file does not matter to its use."""
    return {
        "identity": float("criterion.identity_classifier.weight" in ours),
        "modality_identity": float("criterion.visible_classifier.weight" in ours),
        "mutual": float("criterion.visible_twin.weight" in ours),
    }


def _identities(ours: Mapping[str, Tensor]) -> int:
    return max((_rows(key, ours) for key in ours if key.startswith("criterion.")), default=0)


def _rows(key: str, ours: Mapping[str, Tensor]) -> int:
    value = ours.get(key)
    return len(value) if isinstance(value, Tensor) and value.ndim else 0
