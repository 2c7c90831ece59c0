"""What a checkpoint stores: a module's settings in today's words, and the module that they and the weights make again.

The settings of 0.1 and 0.2 are translated here and nowhere else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from mpanet_pl.errors import UserError
from mpanet_pl.network.trunk import THIN
from mpanet_pl.system import weights
from mpanet_pl.system.targets import TARGET, named
from mpanet_pl.system.trust import check, ran_here

Module = TypeVar("Module", bound=nn.Module)

LOCAL = "mpanet_pl.methods.local_maps."
GEM = {TARGET: "mpanet_pl.trunks.gem.GeneralisedMean"}
TWO_STREAMS = "mpanet_pl.trunks.two_streams.TwoStreams"
TERMS_OF_0_2 = {  # weight -> its term
    "overlap": LOCAL + "Overlap",
    "concentration": LOCAL + "Concentration",
    "equivariance": LOCAL + "Equivariance",
    "triplet": "mpanet_pl.methods.triplet.Triplet",
}


def translated_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a module, or of a run's `model`, that 0.1 or 0.2 stored.

    >>> translated_model({"network": {"maps": "deep", "two_stream": None}, "criterion": {"triplet": 0.5}})["criterion"]
    {'extra': {'triplet': {'_target_': 'mpanet_pl.methods.triplet.Triplet', 'weight': 0.5}}}
    """
    now = dict(model)
    if isinstance(network := now.get("network"), Mapping) and TARGET not in network:
        now["network"] = _network(dict(network))
    if isinstance(criterion := now.get("criterion"), Mapping) and TARGET not in criterion:
        now["criterion"] = _criterion(dict(criterion))
    return now


def _network(network: dict[str, Any]) -> dict[str, Any]:
    if network.get("pooling") in ("mean", "gem"):
        pooling = network.pop("pooling")
        network |= {"pooling": GEM} if pooling == "gem" else {}
    if own := network.pop("two_stream", None):
        network["trunk"] = {TARGET: TWO_STREAMS, "name": network["trunk"], "own": own}
    return {TARGET: LOCAL + "LocalMPANet", **network} if network.pop("maps", "deep") == "local" else network


def _criterion(criterion: dict[str, Any]) -> dict[str, Any]:
    margin = criterion.pop("triplet_margin", 0.3)
    old = {name: criterion.pop(name, 0) for name in TERMS_OF_0_2}
    terms = {name: {TARGET: TERMS_OF_0_2[name], "weight": weight} for name, weight in old.items() if weight}
    if "triplet" in terms and margin != 0.3:
        terms["triplet"]["margin"] = margin
    return criterion | ({"extra": terms | dict(criterion.get("extra") or {})} if terms else {})


def restored(
    cls: type[Module],
    content: Mapping[str, Any],
    path: str | Path,
    *,
    trust: str | Sequence[str] = (),
    **keywords: Any,
) -> Module:
    """The module that the content of a checkpoint holds: `cls`, or the subclass that the checkpoint names.

    It may call classes of this package, of the packages that `trust` names, and those of a run that this user trained.
    """
    from packaging.version import Version  # of Lightning's packages: a module stands without them

    stored = content.get("hyper_parameters")
    if not isinstance(stored, Mapping) or not isinstance(stored.get("network"), Mapping):
        raise UserError(f"{path} is no checkpoint of MPANetModule: it has no hyper_parameters.")
    weights.check_numbers(content.get("state_dict"), path)
    known = ran_here(Path(path).absolute().parent.parent) | {dotted(cls)}
    settings = translated_model(stored)
    check(settings, str(path), trust, known)
    maker: Any = named(settings.pop(TARGET), str(path)) if TARGET in settings else cls
    network = {**settings["network"], "pretrained": False}
    settings = {**settings, "network": network, **keywords}
    try:
        Version(str(content.get("pytorch-lightning_version", "2")))  # Lightning itself stumbles over another word
        module: Module = (cls if issubclass(cls, maker) else maker)(**settings)
        module.on_load_checkpoint(dict(content))  # type: ignore[operator]  # Lightning's hook
        module.load_state_dict(content["state_dict"])
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise UserError(f"{path} is no whole checkpoint of MPANetModule: {error}") from error
    return module


def dotted(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def terms_of(dataset: str, config: Mapping[str, Any], what: str) -> str:
    """Whose terms apply to what a network is kept in, or has made; `config` is its run's, empty where it is not known.

    >>> terms_of("sysu", {"model": {"network": {"trunk": "resnet50", "pretrained": True}}}, "this checkpoint")
    'Trained on sysu from pretrained resnet50 weights: the terms of both apply to this checkpoint.'
    >>> terms_of("synthetic", {}, "this gallery")
    'Trained on synthetic (people that this package draws): its terms apply to this gallery.'
    >>> terms_of("joint", {"train_on": ["sysu", "llcm"]}, "this checkpoint")
    'Trained on sysu and llcm: the terms of each apply to this checkpoint.'
    """
    if dataset == "joint":
        dataset = " and ".join(map(str, config.get("train_on") or [dataset]))
    if dataset == "synthetic":
        dataset += " (people that this package draws)"
    model = config.get("model")
    network = model.get("network") if isinstance(model, Mapping) else None
    if isinstance(network, Mapping) and network.get("pretrained") and network.get("trunk") != THIN:  # ours, of nobody
        began = f"from pretrained {network.get('trunk')} weights"
        whose = "each" if " and " in dataset else "both"
        return f"Trained on {dataset} {began}: the terms of {whose} apply to {what}."
    whose = "the terms of each apply" if " and " in dataset else "its terms apply"
    return f"Trained on {dataset}: {whose} to {what}."
