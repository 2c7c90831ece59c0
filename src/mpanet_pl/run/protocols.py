"""The protocol that a run is scored by: as configured, or what the dataset brings."""

from __future__ import annotations

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from mpanet_pl.data import Dataset
from mpanet_pl.evaluation import RetrievalProtocol

FROM_DATASET = "auto"  # a setting that the dataset's own folder decides


def build_protocol(cfg: DictConfig, dataset: Dataset) -> RetrievalProtocol:
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    if FROM_DATASET not in settings.values():
        protocol: RetrievalProtocol = instantiate(cfg)
        return protocol
    given = {str(key): value for key, value in settings.items() if key != "_target_" and value != FROM_DATASET}
    made: RetrievalProtocol = get_class(str(settings["_target_"])).of(dataset, **given)  # type: ignore[attr-defined]
    return made
