"""What a key may be, said once: a dataclass for each command's configuration, read by OmegaConf.

Types, and the range that belongs to a value alone; defaults stand in `conf/`. A key that no file of `conf/` gives may
still be typed (most of Lightning's). Where a class can be the user's own, by `_target_`, its keys are checked only if
it is one that stands here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


def key(words: str, fits: Callable[[Any], bool]) -> Any:
    """A key that must be `words`."""
    return field(default=MISSING, metadata={"words": words, "fits": fits})


def within(words: str, fits: Callable[[Any], bool]) -> Any:
    """A key of its type's kind, whose value must be `words`."""
    return field(default=MISSING, metadata={"range": words, "fits": fits})


def number(least: float = -math.inf, most: float = math.inf, *, above: float | None = None) -> Any:
    """A finite number of that range, or null where its type has it."""
    bounds = [f"more than {above}"] if above is not None else [f"at least {least}"] if math.isfinite(least) else []
    bounds += [f"at most {most}"] if math.isfinite(most) else []
    words = f"between {least} and {most}" if len(bounds) == 2 and above is None else " and ".join(bounds or ["finite"])
    lower = least if above is None else math.nextafter(above, math.inf)
    return within(words, lambda value: math.isfinite(value) and lower <= value <= most)


def each(words: str, fits: Callable[[Any], bool]) -> Any:
    """A list, each element of which fits."""
    return within(f"a list of {words}", lambda values: all(map(fits, values)))


def path(words: str = "a path") -> Any:
    return key(words, lambda value: value not in ("", "yes", "no", "on", "off"))


def chance() -> Any:
    return key("true, false or a probability", lambda value: 0 <= value <= 1)


def batches(words: str = "more than 0", fits: Callable[[Any], bool] = lambda value: value > 0) -> Any:
    """So many, or that share of them."""
    words += " (a number of batches, or a share up to 1.0)"
    return within(words, lambda value: fits(value) and (isinstance(value, int) or value <= 1))


def is_one_of(*choices: str) -> Any:
    return key(f"one of {', '.join(choices)}", lambda value: value in choices)


def packages() -> Any:
    return key("a package, or a list such as [a,b]", lambda value: value != "" and type(value) in (str, list))


def by_target(schemas: Mapping[str | None, type]) -> Any:
    """A group whose keys depend on its `_target_` (None: without one); they are free where it is none of these."""
    return field(default=MISSING, metadata={"schemas": schemas})


def passenger() -> Any:
    """What a dataset's file brings for another command."""
    return field(default=MISSING, metadata={"passenger": True})


SEED = (0, 2**32 - 1)
WORKERS = (0, 512)
TRIALS = (1, 1000)


@dataclass(kw_only=True)
class _Dataset:
    _target_: str
    root: str = path()


@dataclass(kw_only=True)
class _RegDB(_Dataset):
    trial: int | None


@dataclass(kw_only=True)
class _Folder(_Dataset):
    test_share: float = within("between 0 and 1", lambda value: 0 < value < 1)
    seed: int = number(*SEED)


@dataclass(kw_only=True)
class _Synthetic(_Dataset):
    identities: int = number(1)
    images_per_camera: int = number(1)
    test_share: float = number(0, 1)
    siblings: float = number(0, 1)
    dyed: bool
    hardness: float = number(0)
    seed: int = number(*SEED)
    height: int = number(1)
    width: int = number(1)
    workers: int | None = number(*WORKERS)


DATASETS: dict[str | None, type] = {
    "mpanet_pl.data.SYSU": _Dataset,
    "mpanet_pl.data.LLCM": _Dataset,
    "mpanet_pl.data.RegDB": _RegDB,
    "mpanet_pl.data.Folder": _Folder,
    "mpanet_pl.world.Synthetic": _Synthetic,
}


@dataclass(kw_only=True)
class _Protocol:
    _target_: str
    similarity: str = is_one_of("cosine", "euclidean", "product")
    normalise: bool | None  # 0.2's word for it


@dataclass(kw_only=True)
class _SYSUProtocol(_Protocol):
    trials: int = number(*TRIALS)
    permutations: str | None = path()


@dataclass(kw_only=True)
class _RegDBProtocol(_Protocol):
    cmc: str


@dataclass(kw_only=True)
class _LLCMProtocol(_Protocol):
    trials: int = number(*TRIALS)


@dataclass(kw_only=True)
class _FolderProtocol(_Protocol):
    same_camera: bool


PROTOCOLS: dict[str | None, type] = {
    "mpanet_pl.evaluation.SYSUProtocol": _SYSUProtocol,
    "mpanet_pl.evaluation.RegDBProtocol": _RegDBProtocol,
    "mpanet_pl.evaluation.LLCMProtocol": _LLCMProtocol,
    "mpanet_pl.evaluation.FolderProtocol": _FolderProtocol,
}


@dataclass(kw_only=True)
class _Augmentation:
    flip: float = number(0, 1)
    pad: int = number(0)
    fill: int | str = key(
        "a number from 0 to 255, or mirror", lambda value: value == "mirror" or 0 <= int(value) <= 255
    )
    erase: float = number(0, 1)
    erase_area: list[float]
    erase_ratio: list[float]
    erase_fill: Any = key("three numbers, or noise", lambda value: value == "noise" or type(value) is list)
    erase_aspect: str = is_one_of("log_uniform", "uniform")
    grayscale: bool | int | float = chance()
    grayscale_infrared: float = number(0, 1)
    channel_exchange: bool | int | float = chance()
    single_channel: float = number(0, 1)
    tone: float = number(0, 1)
    tone_knots: int = number(2, 256)
    caj: bool
    rle: bool


@dataclass(kw_only=True)
class _Data:
    _target_: str
    dataset: Any = by_target(DATASETS)
    height: int = number(1)
    width: int = number(1)
    identities_per_batch: int = number(1)
    images_per_identity: int = number(1)
    sampler: Any = by_target({})
    augment: Any = by_target({None: _Augmentation})
    views: int = number(1, 16)
    views_of: str = is_one_of("all", "visible")
    validation: str
    eval_batch_size: int = number(1)
    workers: int | None = number(*WORKERS)
    cache: bool | str = path("true, false or a path")
    frames: int | None = number(1)
    frames_by: str
    corrupt: str | None
    severity: int | None = number(1, 5)
    corrupted: str = is_one_of("visible", "infrared", "both")
    augment_by: str = is_one_of("frame", "track")
    seed: int = number(*SEED)


@dataclass(kw_only=True)
class _Network:
    trunk: Any = by_target({})
    pretrained: bool | str = path("true, false or a path")
    last_stride: int = number(1)
    alleviation: list[str]
    patterns: int = number(0)
    pooling: Any = by_target({})


@dataclass(kw_only=True)
class _Criterion:
    identity: float = number(0)
    modality_identity: float = number(0)
    mutual: float = number(0)
    mean_rate: float = number(0, 1)
    center_cluster: float = number(0)
    margin: float = number(0)
    separation: float = number(0)
    extra: Any = by_target({})


@dataclass(kw_only=True)
class _Optimizer:
    name: str
    lr: float = number(above=0)
    trunk_lr: float | None = number(above=0)
    lr_of: Any = by_target({})
    weight_decay: float = number(0)
    fused: bool | None
    momentum: float | None = number(0, 1)
    nesterov: bool | None
    betas: list[float] = each("numbers from 0 to below 1", lambda beta: 0 <= beta < 1)
    eps: float = number(above=0)


@dataclass(kw_only=True)
class _Schedule:
    name: str
    milestones: list[int] | None = each("epochs from 1 on", lambda epoch: epoch >= 1)
    gamma: float | None = number(above=0, most=1)
    warmup: int | float | None = number(0)
    start: float | None = number(0, 1)
    end: float | None = number(0, 1)
    monitor: str | None
    mode: str | None = is_one_of("max", "min")
    frequency: int | None = number(1)
    patience: int | None = number(0)


@dataclass(kw_only=True)
class _Model:
    _target_: str
    _recursive_: bool = key("false: the module builds its own parts", lambda value: value is False)
    _convert_: str = key("all: a checkpoint keeps plain values", lambda value: value == "all")
    network: Any = by_target({None: _Network})
    criterion: Any = by_target({None: _Criterion})
    optimizer: Any = by_target({None: _Optimizer})
    schedule: Any = by_target({None: _Schedule})


@dataclass(kw_only=True)
class _Trainer:
    """Lightning's own keywords, but for those whose values a run decides (logger, callbacks, plugins, …)."""

    accelerator: str
    devices: Any = key("a number of devices, or a list of them", lambda value: type(value) in (int, str, list))
    num_nodes: int = number(1)
    strategy: str
    precision: str
    max_epochs: int = number(1)
    min_epochs: int | None = number(0)
    max_steps: int = number(-1)
    min_steps: int | None = number(0)
    max_time: str | None = key("DAYS:HOURS:MINUTES:SECONDS", lambda text: bool(re.fullmatch(r"\d+(:\d\d){3}", text)))
    limit_train_batches: int | float | None = batches()
    limit_val_batches: int | float | None = batches("at least 0", lambda value: value >= 0)
    limit_test_batches: int | float | None = batches()
    limit_predict_batches: int | float | None = batches()
    overfit_batches: int | float = key(
        "left out (it would put samplers of its own in place: see trainer.limit_train_batches)",
        lambda value: value == 0,
    )
    fast_dev_run: bool | int = key("true, false or a number of batches", lambda value: value >= 0)
    val_check_interval: int | float | None = batches()
    check_val_every_n_epoch: int | None = number(1)
    num_sanity_val_steps: int | None = number(-1)
    log_every_n_steps: int = number(1)
    accumulate_grad_batches: int = number(1)
    gradient_clip_val: float | None = number(0)
    gradient_clip_algorithm: str | None = is_one_of("norm", "value")
    deterministic: bool | str = key("true, false or warn", lambda value: value in (True, False, "warn"))
    benchmark: bool | None
    inference_mode: bool
    profiler: str | None = is_one_of("simple", "advanced", "pytorch")
    detect_anomaly: bool
    barebones: bool
    sync_batchnorm: bool
    reload_dataloaders_every_n_epochs: int = number(0)
    enable_checkpointing: bool | None
    enable_progress_bar: bool | None
    enable_model_summary: bool | None
    enable_autolog_hparams: bool
    default_root_dir: str | None = path()


@dataclass(kw_only=True)
class _Validation:
    on: str
    start: int = number(1)
    monitor: list[str] | None


@dataclass(kw_only=True)
class Train:
    model: Any = by_target({"mpanet_pl.MPANetModule": _Model})
    data: _Data
    trainer: _Trainer
    logger: Any = by_target({})
    callbacks: Any = by_target({})
    protocol: Any = by_target(PROTOCOLS)
    validation: _Validation
    dataset: str
    method: str
    recipe: Any = passenger()
    recipes: Any = passenger()
    train_on: list[str]
    test_on: list[str]
    data_dirs: Any = by_target({})
    data_dir: str = path()
    trial: int | None = number(1)
    seed: int = number(*SEED)
    rung: str
    resume: str | None = path()
    run_dir: str | None = path()
    trust: Any = packages()
    compile: bool
    channels_last: bool


@dataclass(kw_only=True)
class Evaluate:
    data: _Data
    trainer: _Trainer
    protocol: Any = by_target(PROTOCOLS)
    model: Any = passenger()
    validation: Any = passenger()
    recipe: Any = passenger()
    recipes: Any = passenger()
    ckpts: list[str]
    ckpt: str | None = path()
    features: str | None = path()
    name: str | None
    notes: str | None
    dataset: str | None
    train_on: list[str]
    test_on: list[str]
    data_dirs: Any = by_target({})
    data_dir: str | None = path()
    trial: int | None = number(1)
    seed: int = number(*SEED)
    save_features: str | None = path()
    rerank: Any = key("a name, or {_target_: …}", lambda value: value is None or type(value) in (str, dict))
    k1: int | None = number(1)
    k2: int | None = number(1)
    measure: Any = key("a name, or {_target_: …}", lambda value: value is None or type(value) in (str, dict))
    rank_list: int | str = key("spread, first, worst or a person's number", lambda value: value != "")
    slices: Any = key("a word, or a list such as [camera,gallery]", lambda value: type(value) in (str, list))
    last_stride: int | None = number(1)
    embedding: str
    method: str | None
    flip: bool
    allow_trained_people: bool
    run_dir: str | None = path()
    trust: Any = packages()


@dataclass(kw_only=True)
class Prepare:
    data: _Data
    protocol: Any = by_target(PROTOCOLS)
    model: Any = passenger()
    trainer: Any = passenger()
    validation: Any = passenger()
    dataset: str
    train_on: list[str]
    test_on: list[str]
    data_dirs: Any = by_target({})
    data_dir: str = path()
    trial: int | None = number(1)
    seed: int = number(*SEED)


@dataclass(kw_only=True)
class Synthesize:
    out: str = path()
    layout: str = is_one_of("sysu", "regdb", "llcm", "folder", "vcm", "buptcampus", "orbench", "mp_reid")
    scale: str = is_one_of("small", "full")
    identities: int | None = number(1)
    frames: int = number(1)
    images_per_camera: int = number(1)
    siblings: float = number(0, 1)
    hardness: float = number(0)
    height: int = number(1)
    width: int = number(1)
    seed: int = number(*SEED)
    workers: int | None = number(*WORKERS)


@dataclass(kw_only=True)
class _Embedder:
    """What `load` asks of a checkpoint, and what makes its vectors small."""

    ckpt: str = path()
    compact: int | str | None = key("a whole number, or the path of a gallery", lambda value: value != "")
    whiten: bool
    embedding: str
    data_dir: str | None = path()
    flip: bool
    height: int | None = number(1)
    width: int | None = number(1)
    last_stride: int | None = number(1)
    method: str | None
    dataset: str | None  # from here on, what a method's file brings beside its name
    data: Any = passenger()
    model: Any = passenger()
    protocol: Any = passenger()
    validation: Any = passenger()
    recipe: Any = passenger()
    recipes: Any = passenger()
    trust: Any = packages()


@dataclass(kw_only=True)
class Embed(_Embedder):
    trainer: _Trainer
    images: str | None = path()
    video: str | None = path()
    tracks: str | None = path()
    camera: str | None
    start: float = number()
    modality: str | None = is_one_of("visible", "infrared")
    crops: str | None = path()
    out: str = path()
    name: str | None
    group: str | None
    dtype: str = is_one_of("float32", "float16")
    prune: bool
    strict: bool
    batch_size: int = number(1)
    shard_size: int = number(1)
    workers: int | None = number(*WORKERS)


@dataclass(kw_only=True)
class Export(_Embedder):
    trainer: Any = passenger()
    out: str = path()
    format: str = is_one_of("onnx", "torch")
    quantize: str | None = is_one_of("int8")


@dataclass(kw_only=True)
class _Filter:
    cameras: list[str]
    not_cameras: list[str]
    modality: str | None = is_one_of("visible", "infrared")
    after: float | None = number()
    before: float | None = number()
    other_camera: bool
    within: float | None = number(0)


@dataclass(kw_only=True)
class _Gallery:
    gallery: str = path()
    threshold: float | str | None = key(
        "auto, null or a cosine", lambda value: value == "auto" or (isinstance(value, float) and abs(value) <= 1)
    )
    ckpt: str | None = path()
    device: str
    trust: Any = packages()


@dataclass(kw_only=True)
class _Milvus:
    uri: str | None = key("a file such as people.db, or http://HOST:19530", lambda value: value != "")
    collection: str
    index: str = is_one_of("FLAT", "HNSW", "IVF_FLAT")
    uri_token: str | None


@dataclass(kw_only=True)
class _Engine(_Milvus):
    engine: str = is_one_of("exact", "milvus")


@dataclass(kw_only=True)
class Search(_Gallery, _Engine):
    queries: str = path()
    out: str = path()
    k: int = number(1)
    only: _Filter
    name: str | None
    group: str | None
    sheet: int = number(0)


@dataclass(kw_only=True)
class Forget(_Milvus):
    gallery: str = path()
    identity: list[str]
    track: list[str]
    camera: list[str]
    path: list[str]
    before: float | None = number()
    older_than: str | None
    path_list: str | None = path()
    like: str | None = path()
    threshold: float | str | None = key(
        "auto or a cosine", lambda value: value == "auto" or (isinstance(value, float) and abs(value) <= 1)
    )
    report: str | None = path()
    ckpt: str | None = path()
    device: str
    trust: Any = packages()


@dataclass(kw_only=True)
class Serve(_Gallery, _Engine):
    host: str
    port: int = number(0, 65535)
    hosts: list[str]
    proxies: list[str]
    token_file: str | None = path()
    rate: str | None
    connections: int = number(1, 100_000)
    access_log: str = is_one_of("off", "on", "hashed")
    access_file: str | None = path()


COMMANDS: dict[str, type] = {
    "train": Train,
    "evaluate": Evaluate,
    "prepare": Prepare,
    "synthesize": Synthesize,
    "embed": Embed,
    "search": Search,
    "export": Export,
    "forget": Forget,
    "serve": Serve,
}
