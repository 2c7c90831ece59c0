"""Checkpoints of released code, by method: their keys renamed to this package's, and back.

A released file is a state dict, bare or under `net`, `state_dict` or `model`, an epoch or scores beside it, sometimes
with every key behind `module.`. It stores neither the last stride nor the size of the images. A method's file,
`methods/NAME.py`, says what its release calls things:

- `RELEASED`: pairs (released prefix, our prefix), of which the first that fits counts, either way;
- `DROPPED`, where there are any: prefixes of weights that the release stores and never uses;
- `unused(state)`, where they depend on the file: further such prefixes;
- `architecture(ours)`: the settings of `network` and `criterion` that a state dict under our keys tells.
"""

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any

from torch import Tensor

from mpanet_pl import methods
from mpanet_pl.errors import UserError
from mpanet_pl.module import MPANetModule
from mpanet_pl.network.architecture import alleviated, resnet_of, rows
from mpanet_pl.system import weights
from mpanet_pl.system.targets import TARGET, named

MPANET = "mpanet"
PREFIXES = [  # MPANet's
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
NESTED = ("net", "state_dict", "model")  # what trainers store a state dict under, beside an epoch and scores


@dataclass(frozen=True)
class Release:
    """What a method's released code calls the weights."""

    prefixes: Sequence[tuple[str, str]]
    dropped: tuple[str, ...]
    architecture: Callable[[Mapping[str, Tensor]], Mapping[str, Any]]
    unused: Callable[[Mapping[str, Any]], tuple[str, ...]] = lambda _: ()

    def ours(self, state: Mapping[str, Any]) -> dict[str, Any]:
        bare = {key.removeprefix("module."): value for key, value in _bare(state).items()}
        dropped = (*self.dropped, *self.unused(bare))
        known = tuple(released for released, _ in self.prefixes)
        weights = {key: value for key, value in bare.items() if isinstance(value, Tensor) or key.startswith(known)}
        used = {key: value for key, value in weights.items() if not key.startswith(dropped)}
        return {_renamed(key, self.prefixes): value for key, value in used.items()}

    def released_name(self, key: str) -> str:
        return _renamed(key, [(ours, released) for released, ours in self.prefixes])

    def names(self, state: Mapping[str, Any]) -> bool:
        """Whether every key of a file is one that the release might write."""
        known = tuple(released for released, _ in self.prefixes) + self.dropped
        return all(
            key.removeprefix("module.").startswith(known)
            for key, value in _bare(state).items()
            if isinstance(value, Tensor)
        )


def from_official(state: Mapping[str, Any], method: str = MPANET) -> dict[str, Any]:
    """A released state dict under this package's keys; the values are the same objects.

    Tensors under unknown keys stay as they are; anything else under such a key, like an epoch, is left out.

    Examples:
        >>> from_official({"module.backbone.conv1.weight": 1, "visible_classifier_.weight": 2})
        {'network.trunk.conv1.weight': 1, 'criterion.visible_twin.weight': 2}
    """
    return release(method).ours(state)


def to_official(state: Mapping[str, Any], method: str = MPANET) -> dict[str, Any]:
    """The way back, without the weights that the release stores and never uses.

    Examples:
        >>> to_official({"network.trunk.alleviation.layer3.squeeze.weight": 1})
        {'backbone.MAM3.channel_attention.0.weight': 1}
    """
    known = release(method)
    return {known.released_name(key): value for key, value in state.items()}


def release(method: str) -> Release:
    """What is known of a method's release. The name is looked up among this package's own files, nowhere else."""
    if method == MPANET:
        return Release(PREFIXES, (), _architecture)
    if method not in (there := released_methods()):
        raise UserError(f"There are released checkpoints of {', '.join(there)}, got method={method}.")
    file = import_module(f"{methods.__name__}.{method}")
    further = [file.unused] if hasattr(file, "unused") else []
    return Release(file.RELEASED, tuple(getattr(file, "DROPPED", ())), file.architecture, *further)


def released_methods() -> list[str]:
    """The methods whose files know their release."""
    files = sorted(file.name for file in pkgutil.iter_modules(methods.__path__))
    known = [name for name in files if hasattr(import_module(f"{methods.__name__}.{name}"), "RELEASED")]
    return [MPANET, *known]


def _renamed(key: str, prefixes: Sequence[tuple[str, str]]) -> str:
    return next((new + key.removeprefix(old) for old, new in prefixes if key.startswith(old)), key)


def _bare(state: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((state[name] for name in NESTED if isinstance(state.get(name), Mapping)), state)


def is_official(state: Mapping[str, object]) -> bool:
    """Whether the content of a file is that of a released checkpoint, of any method."""
    known = tuple({prefix for method in released_methods() for prefix, _ in release(method).prefixes})
    return any(str(key).removeprefix("module.").startswith(known) for key in _bare(state))


def module_from_official(
    state: Mapping[str, Any],
    method: str = MPANET,
    *,
    height: int | None = None,
    width: int | None = None,
    last_stride: int | None = None,
) -> MPANetModule:
    """The module whose architecture the keys and shapes of a released state dict tell, with its weights.

    `height` and `width` of the images matter where the network has weights for each position of a map.
    """
    known = release(method)
    others = [] if known.names(state) else [name for name in released_methods() if release(name).names(state)]
    if others:
        raise UserError(
            f"the released checkpoint is one of {' or '.join(others)}: say method={others[0]}, not {method}."
        )
    ours = known.ours(state)
    settings = known.architecture(ours)
    given = {"pretrained": False} | ({} if last_stride is None else {"last_stride": last_stride})
    module = MPANetModule(
        max(1, _identities(ours)),
        network={**settings["network"], **given, **_size(settings["network"], height, width)},
        criterion=settings["criterion"],
        optimizer={"lr": 3.5e-4, "weight_decay": 5e-4},
        schedule={"milestones": [80, 120]},
    )
    weights.load_exactly(module, ours, "the released checkpoint", named=known.released_name)
    return module


def _size(network: Mapping[str, Any], height: int | None, width: int | None) -> dict[str, Any]:
    """The images' size, where the constructor of the method's network names it."""
    asked = signature(named(network[TARGET], "network")).parameters if TARGET in network else {}
    sizes = {name: size for name, size in (("height", height), ("width", width)) if name in asked}
    if None in sizes.values():
        raise UserError("the released checkpoint has weights for each position of a map: give height and width.")
    return sizes


def _architecture(ours: Mapping[str, Tensor]) -> dict[str, Any]:
    """MPANet's. The losses whose parameters are there have weight 1: what a file does not show does not matter."""
    return {
        "network": {
            "trunk": resnet_of(ours),
            "last_stride": 1,
            "alleviation": alleviated(ours),
            "patterns": rows(ours, "network.patterns.attention.weight"),
        },
        "criterion": {
            "identity": float("criterion.identity_classifier.weight" in ours),
            "modality_identity": float("criterion.visible_classifier.weight" in ours),
            "mutual": float("criterion.visible_twin.weight" in ours),
        },
    }


def _identities(ours: Mapping[str, Tensor]) -> int:
    return max((rows(ours, key) for key in ours if key.startswith("criterion.")), default=0)
