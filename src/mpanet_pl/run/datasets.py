"""What the dataset of a configuration says of itself: its class, its trials, the protocol that it brings."""

from typing import Any

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from mpanet_pl.data import Augmentation, Catalogue, Dataset, ReIDDataModule
from mpanet_pl.data.faults import BrokenDataset
from mpanet_pl.data.layout import DatasetOnDisk, unlike_published
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import RetrievalProtocol
from mpanet_pl.system.processes import is_child_rank, rank_of_outer_launcher
from mpanet_pl.system.targets import TARGET, build, fitting

FROM_DATASET = "auto"  # a setting that the dataset's own folder decides


def dataset_class(cfg: DictConfig) -> type[DatasetOnDisk]:
    """The class that says what is to be known before anything is read; a stranger to the base has nothing to say."""
    named = get_class(cfg.data.dataset["_target_"])
    return named if issubclass(named, DatasetOnDisk) else DatasetOnDisk


def unpublished(dataset: object, test: Catalogue) -> list[str]:
    """Why no published number stands beside scores of these test images; empty where one may."""
    unlike = "" if test.tracks is not None else unlike_published(dataset, "test", test)  # published are frames
    return [f"no published number stands beside: {unlike.rstrip('.')}"] if unlike else []


def trials_of(cfg: DictConfig) -> range | None:
    """The dataset's trials; of several datasets those of a member that is used."""
    settings = OmegaConf.to_container(cfg.data.dataset, resolve=False)
    assert isinstance(settings, dict)
    used = {name: OmegaConf.select(cfg, f"data.dataset.{name}") for name in ("train_on", "test_on")}
    return dataset_class(cfg).trials_of({str(key): value for key, value in settings.items()} | used)


def set_trial(cfg: DictConfig) -> None:
    """The first trial where none is named; none of a dataset without, whose runs it would only rename."""
    trials = trials_of(cfg)
    if trials is None and cfg.trial is not None:
        name = dataset_class(cfg).name
        raise UserError(f"{name} has no trials: leave out trial={cfg.trial} (seed=… repeats a run).")
    if trials and cfg.trial is None:
        cfg.trial = trials[0]


def foresee(data: ReIDDataModule) -> None:
    """Read who is in which split before anything is made; a dataset that cannot tell is made first."""
    try:
        data.read_catalogues()
    except BrokenDataset:
        data.dataset.prepare()
        data.read_catalogues()


def make_ready(data: ReIDDataModule, stage: str) -> None:
    """Draw the images where they can be drawn, cache and read them, and say where they lie."""
    data.prepare_data()
    if not (is_child_rank() or rank_of_outer_launcher()):
        print(f"Data: {data.dataset.root}", flush=True)
    data.setup(stage)


def build_protocol(cfg: DictConfig, dataset: Dataset) -> RetrievalProtocol:
    """The protocol that `_target_` names. One of the user's own gets those of the dataset's keys that it takes."""
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    words = fitting({str(key): value for key, value in settings.items()}, _any_protocol, "protocol")
    if FROM_DATASET not in words.values():
        protocol: RetrievalProtocol = build(words, "protocol")
        return protocol
    given = {key: value for key, value in words.items() if key != TARGET and value != FROM_DATASET}
    made: RetrievalProtocol = get_class(str(words[TARGET])).of(dataset, **given)  # type: ignore[attr-defined]
    return made


def _any_protocol(
    permutations: None,
    trials: None,
    cmc: None,
    same_camera: None,
    similarity: None,
    normalise: None,
    rules: None,
    setting: None,
    members: None,
    queries_in_gallery: None,
) -> None:
    """The keys of the datasets' own protocols."""


def build_data(cfg: DictConfig, **keywords: Any) -> ReIDDataModule:
    """The data module; an augmentation of the user's own takes those of the recipe's keywords that it knows."""
    augment = OmegaConf.to_container(cfg.augment, resolve=True)
    if isinstance(augment, dict) and TARGET in augment:
        words = {str(key): value for key, value in augment.items()}
        cfg = cfg.copy()
        cfg.augment = fitting(words, Augmentation, "data.augment")
    data: ReIDDataModule = instantiate(cfg, **keywords)
    return data
