"""Checkpoints of the released MPANet code: their keys renamed to this package's, and back.

A released file is a bare state dict, sometimes with every key behind `module.`. It stores neither the last stride nor
the size of the images.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mpanet_pl import weights
from mpanet_pl.errors import UserError
from mpanet_pl.module import MPANetModule

OURS_OF_RELEASED = {  # patterns with their replacement, first match wins
    r"backbone\.MAM(\d)\.channel_attention\.0": r"network.trunk.alleviation.layer\1.squeeze",
    r"backbone\.MAM(\d)\.channel_attention\.2": r"network.trunk.alleviation.layer\1.excite",
    r"backbone": "network.trunk",
    r"spatial_attention": "network.patterns.attention",
    r"bn_neck": "network.neck",
    r"classifier": "criterion.identity_classifier",
    r"visible_classifier": "criterion.visible_classifier",
    r"infrared_classifier": "criterion.infrared_classifier",
    r"visible_classifier_": "criterion.visible_twin",
    r"infrared_classifier_": "criterion.infrared_twin",
}
RELEASED_OF_OURS = {
    r"network\.trunk\.alleviation\.layer(\d)\.squeeze": r"backbone.MAM\1.channel_attention.0",
    r"network\.trunk\.alleviation\.layer(\d)\.excite": r"backbone.MAM\1.channel_attention.2",
    **{re.escape(ours): released for released, ours in list(OURS_OF_RELEASED.items())[2:]},
}
RESNETS = {  # (blocks of layer3, bottlenecks)
    (2, False): "resnet18",
    (6, False): "resnet34",
    (6, True): "resnet50",
    (23, True): "resnet101",
    (36, True): "resnet152",
}
RECIPE: dict[str, Any] = {
    "optimizer": {"lr": 3.5e-4, "weight_decay": 5e-4},
    "schedule": {"milestones": [80, 120]},
}


def from_official(state: Mapping[str, Any]) -> dict[str, Any]:
    """A released state dict under this package's keys; the values are the same objects.

    >>> from_official({"module.backbone.conv1.weight": 1, "visible_classifier_.weight": 2})
    {'network.trunk.conv1.weight': 1, 'criterion.visible_twin.weight': 2}
    """
    bare = {key.removeprefix("module."): value for key, value in state.items()}
    return _renamed(bare, OURS_OF_RELEASED, "a released MPANet checkpoint")


def to_official(state: Mapping[str, Any]) -> dict[str, Any]:
    """The way back.

    >>> to_official({"network.trunk.alleviation.layer3.squeeze.weight": 1})
    {'backbone.MAM3.channel_attention.0.weight': 1}
    """
    return _renamed(state, RELEASED_OF_OURS, "a state dict of MPANetModule")


def _renamed(state: Mapping[str, Any], names: Mapping[str, str], kind: str) -> dict[str, Any]:
    renamed = {_rename(key, names): value for key, value in state.items()}
    unknown = [key for key in state if _rename(key, names) is None]
    if unknown:
        raise UserError(f"not keys of {kind}: {', '.join(unknown)}")
    return renamed


def _rename(key: str, names: Mapping[str, str]) -> str | None:
    for pattern, replacement in names.items():
        if re.match(rf"{pattern}\.", key):
            return re.sub(rf"^{pattern}\.", rf"{replacement}.", key)
    return None


def is_official(state: Mapping[str, object]) -> bool:
    """Whether the content of a file is that of a released checkpoint."""
    return any(str(key).removeprefix("module.").startswith(("backbone.", "bn_neck.")) for key in state)


def module_from_official(state: Mapping[str, Any], *, last_stride: int = 1) -> MPANetModule:
    """The module whose architecture the keys and shapes of a released state dict tell, with its weights."""
    ours = from_official(state)
    module = MPANetModule(
        _rows("criterion.identity_classifier.weight", ours),
        network={**_network(ours), "pretrained": False, "last_stride": last_stride},
        criterion=_criterion(ours),
        **RECIPE,
    )
    weights.load_exactly(module, ours, "the released checkpoint")
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


def _rows(key: str, ours: Mapping[str, Tensor]) -> int:
    return len(ours[key]) if key in ours else 0
