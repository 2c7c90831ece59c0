"""A run's folder: where it is, the configuration it keeps, and what its results can be traced to."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf

from mpanet_pl.errors import UserError
from mpanet_pl.run.callbacks.checkpoints import LAST, epochs_done
from mpanet_pl.run.old_names import translated
from mpanet_pl.run.request import Request
from mpanet_pl.run.settings import plain
from mpanet_pl.system.files import alone_in, sweep_up, written_aside
from mpanet_pl.system.processes import CHILD_CONFIG, child_config, is_child_rank, rank_of_outer_launcher
from mpanet_pl.system.shell import typed
from mpanet_pl.system.trust import check_targets, ran_here, seal

CONFIG = "config.yaml"
SAME_RUN = (  # what may change when a run is continued, and leaves it the same run
    "trainer.max_epochs",
    "trainer.log_every_n_steps",
    "data_dir",
    "pictures",
    "data.workers",
    "data.cache",
    "data.eval_batch_size",
)
CLIPPING = "trainer.gradient_clip_val"
DRAWN_OVER_ALL_EPOCHS = ("cosine", "onecycle")  # schedules that a longer run changes from its first step on
ANOTHER_RUN = (  # what may change, and is said of the results: by the record, where it comes out differently
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.precision",
    CLIPPING,
)


def reopen(folder: str | Path, request: Request, trust: str | Sequence[str] | None = None) -> DictConfig:
    """The configuration of the run in `folder` with what is typed now, `changes` saying what made it another run."""
    path = Path(folder).absolute()
    cfg = stored_config(path)
    if "resume" not in cfg or "trainer" not in cfg:
        raise UserError(f"{folder} holds no training run: its {CONFIG} is of something else.")
    overrides = [text for text in request.overrides if not text.startswith(("resume=", "trust=", "hydra."))]
    for override in overrides:
        if override.split("=")[0] not in SAME_RUN + ANOTHER_RUN:
            raise UserError(
                f"A resumed run keeps its own configuration, so {override} cannot apply; only "
                f"{', '.join(SAME_RUN + ANOTHER_RUN)} may change. Start a new run for anything else."
            )
    before, cfg = cfg, request.change(cfg, overrides)
    OmegaConf.set_struct(cfg, False)  # what changed is a key of its own
    cfg.run_dir = str(path)
    check_targets(cfg, str(path / CONFIG), trust, known=ran_here(path))
    done = epochs_done(path)
    if done > cfg.trainer.max_epochs:
        raise UserError(f"{folder} has done {done} epochs, which trainer.max_epochs={cfg.trainer.max_epochs} cuts off.")
    if OmegaConf.select(before, CLIPPING) != OmegaConf.select(cfg, CLIPPING):
        cfg.changes = [*cfg.get("changes", []), f"after epoch {done}: {CLIPPING}={OmegaConf.select(cfg, CLIPPING)}"]
    asked, length = before.trainer.max_epochs, cfg.trainer.max_epochs
    if length != asked and cfg.model.schedule.get("name") in DRAWN_OVER_ALL_EPOCHS:
        told = f"after epoch {done}: {cfg.model.schedule.name} over {length} epochs instead of {asked}"
        cfg.changes = [*cfg.get("changes", []), told]
    return cfg


def stored_config(folder: Path) -> DictConfig:
    """The configuration in a run's folder, of whatever release; it may be a stranger's."""
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} is no run's folder: it has no {CONFIG}.")
    try:
        text = (folder / CONFIG).read_text(encoding="utf-8")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):  # few lines could stand for gigabytes
            raise ValueError("it has aliases, which no run writes")
        cfg = OmegaConf.create(text)
    except Exception as error:  # whatever a parser of garbage stumbles over: there is no end to the kinds
        raise UserError(f"{folder / CONFIG} is damaged: {error}") from error
    if not isinstance(cfg, DictConfig) or not cfg:
        raise UserError(f"{folder / CONFIG} is damaged: it holds no keys.")
    return OmegaConf.create(translated(plain(cfg)))


def check_free(cfg: DictConfig, request: Request, resumed: bool = False) -> None:
    """Refuse a folder that holds a run, or cannot be written to, before anything is drawn or trained."""
    outer_rank = rank_of_outer_launcher()
    if is_child_rank():
        return
    if outer_rank is None and cfg.trainer.num_nodes > 1:
        raise UserError("trainer.num_nodes is for processes that torchrun or srun starts on every machine.")
    if outer_rank is not None and not cfg.run_dir:
        raise UserError("Processes started from outside (torchrun, srun) must agree on a folder: add run_dir=PATH.")
    if resumed or outer_rank:
        return
    folder = Path(cfg.run_dir).absolute() if cfg.run_dir else request.job_folder or Path("runs").absolute()
    if cfg.run_dir:
        _refuse_another_run(folder)
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise UserError(f"The run's folder {folder} cannot be written: {there} is no folder that you may write to.")


def _refuse_another_run(folder: Path) -> None:
    if (folder / CONFIG).exists():
        go_on = f" (python -m mpanet_pl.train {typed('resume', folder)} continues it.)"
        trained = "resume" in stored_config(folder)
        raise UserError(f"{folder} already holds a run: choose another run_dir.{go_on if trained else ''}")
    if (folder / LAST).exists():
        raise UserError(f"{folder} holds a checkpoint of some other run, {LAST}: choose another run_dir.")


@contextmanager
def run_folder(cfg: DictConfig, request: Request, resumed: bool = False) -> Iterator[Path]:
    """The run's folder, made new unless the run is resumed, with its configuration in it; every rank gets the same.

    Nobody else runs in it meanwhile.
    """
    if is_child_rank():
        yield child_config().parent
        return
    folder = Path(cfg.run_dir).absolute() if cfg.run_dir else request.job_folder or _new_folder(cfg.dataset)
    if rank_of_outer_launcher():
        yield folder
        return
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone_in(folder))
            _claim(folder, cfg, resumed)
        except OSError as error:
            raise UserError(f"The run's folder {folder} cannot be written: {error.strerror}.") from error
        yield folder


def _claim(folder: Path, cfg: DictConfig, resumed: bool) -> None:
    """Leave the configuration there, for a later start and for the ranks that this process starts."""
    if resumed:
        for place in (folder, (folder / LAST).parent):
            sweep_up(place)
    else:
        _refuse_another_run(folder)
    with written_aside(folder / CONFIG) as aside:
        OmegaConf.save(cfg, aside)
    seal(folder, plain(cfg, resolve=True))
    os.environ[CHILD_CONFIG] = str(folder / CONFIG)


def begun_in_sweep(cfg: DictConfig, request: Request) -> Path | None:
    """The folder of this job of a sweep, where an earlier start of the same sweep already made it."""
    folder = request.job_folder
    if folder is None or not (folder / CONFIG).exists():
        return None
    if plain(stored_config(folder)) | {"run_dir": None} != plain(cfg) | {"run_dir": None}:
        raise UserError(f"{folder} holds a run of another configuration: give the sweep another hydra.sweep.dir.")
    return folder


def _new_folder(dataset: str) -> Path:
    """A new folder named by the time; two runs that start in one second do not share it."""
    name = dataset if re.fullmatch(r"\w[\w.-]*", dataset) else "other"  # a checkpoint may say anything
    parent = Path("runs", name).absolute()
    parent.mkdir(parents=True, exist_ok=True)
    stem = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in count(1):
        folder = parent / (stem if number == 1 else f"{stem}_{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("count() does not end")
