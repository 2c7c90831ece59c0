"""What 0.1 wrote into checkpoints, run folders and results, under today's names: the one place that knows both."""

from collections.abc import Mapping
from typing import Any

from mpanet_pl.stored import LOCAL, translated_model
from mpanet_pl.system.targets import TARGET

KEYS = {"folder": "run_dir", "other_trial": "allow_trained_people", "embeddings": "save_features"}
TARGETS = {"mpanet_pl.data.Synthetic": "mpanet_pl.world.Synthetic"}


def translated(config: Mapping[str, Any]) -> dict[str, Any]:
    """A command's configuration.

    >>> translated({"folder": "runs/1", "data": {"dataset": {"_target_": "mpanet_pl.data.Synthetic"}}})
    {'run_dir': 'runs/1', 'data': {'dataset': {'_target_': 'mpanet_pl.world.Synthetic'}}}
    """
    now = {KEYS.get(key, key): _with_targets(value) for key, value in config.items()}
    if isinstance(now.get("model"), Mapping):
        now["model"] = translated_model(now["model"])
        if str(now["model"].get("network", {}).get(TARGET)).startswith(LOCAL):
            now["callbacks"] = {"sharpen": {TARGET: LOCAL + "Sharpen"}, **(now.get("callbacks") or {})}
    if isinstance(validation := now.get("validation"), dict) and "every" in validation:
        now["trainer"] = {**now.get("trainer", {}), "check_val_every_n_epoch": validation.pop("every")}
        now.setdefault("callbacks", {})
        if now.get("dataset") != "regdb":
            now["trial"] = None  # 0.1 wrote 1 for every dataset
    if isinstance(protocol := now.get("protocol"), dict) and str(protocol.get("permutations")).startswith(
        "${existing:"
    ):
        protocol["permutations"] = "auto"
    return now


def translated_provenance(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What results say that they came from; an evaluation's configuration used to hold the trained one.

    >>> translated_provenance({"config": {"ckpt": "last.ckpt", "trained": {"folder": "runs/1"}}})
    {'config': {'ckpt': 'last.ckpt'}, 'trained': {'run_dir': 'runs/1'}}
    """
    config = translated(provenance.get("config", {}))
    trained = provenance.get("trained") or config.pop("trained", None)
    return {**provenance, "config": config, **({"trained": translated(trained)} if trained else {})}


def _with_targets(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {
            key: TARGETS.get(value, value) if key == "_target_" and isinstance(value, str) else _with_targets(value)
            for key, value in tree.items()
        }
    return tree
