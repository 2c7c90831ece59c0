"""Lightning's trainer from its keys, and what can go wrong while it runs, in sentences."""

from __future__ import annotations

import errno
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.module import MPANetModule
from mpanet_pl.run.callbacks import AtomicCheckpoints
from mpanet_pl.run.callbacks.checkpoints import LAST
from mpanet_pl.system.lightning import isolated as isolated
from mpanet_pl.system.lightning import quiet as quiet
from mpanet_pl.system.precision import best_precision
from mpanet_pl.system.processes import STOPPED, is_child_rank
from mpanet_pl.system.shell import typed

CHOICES = {
    "accelerator": ("auto", "cpu", "gpu"),  # the augmentation's hash needs float64, which Apple's GPUs lack
    "precision": ("auto", "32-true", "bf16-mixed", "16-mixed"),  # what losses in float32 go with
    "strategy": ("auto", "ddp", "ddp_find_unused_parameters_true"),  # whose gradients are means over the ranks
}
PROFILERS: dict[str, Callable[..., Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}
ELSEWHERE = {  # what a run decides itself, and how to say it
    "callbacks": "+callbacks.NAME={_target_: …}",
    "logger": "logger=… or +logger.NAME={_target_: …}",
    "plugins": "Python, with a Trainer of your own",
    "fast_dev_run": "trainer.max_epochs=1 trainer.limit_train_batches=2",
    "overfit_batches": "trainer.limit_train_batches=…",
    "limit_test_batches": "nothing: a table is of all test images",
    "limit_predict_batches": "nothing: a run predicts nothing",
}


def build_trainer(
    cfg: DictConfig,
    callbacks: Sequence[pl.Callback] = (),
    loggers: Sequence[Any] = (),
    root: Path | None = None,
) -> pl.Trainer:
    """Any key of `pl.Trainer` may be given; `root` is where Lightning's own files go, the run's folder."""
    given: dict[str, Any] = {str(key): value for key, value in OmegaConf.to_container(cfg, resolve=True).items()}  # type: ignore[union-attr]
    for key, instead in ELSEWHERE.items():
        if given.get(key):
            raise UserError(f"trainer.{key} does not go with these runs; use {instead}.")
    keys = {key: value for key, value in given.items() if key not in ELSEWHERE}
    for key, choices in CHOICES.items():
        if keys[key] not in choices:
            raise UserError(f"trainer.{key} is one of {', '.join(choices)}, got {keys[key]}.")
    for key in ("max_epochs", "log_every_n_steps", "accumulate_grad_batches"):
        if keys[key] < 1:
            raise UserError(f"trainer.{key} must be at least 1, got {keys[key]}.")
    if not keys["limit_train_batches"] > 0:
        raise UserError(f"trainer.limit_train_batches must be more than 0, got {keys['limit_train_batches']}.")
    if keys["accelerator"] == "auto":
        keys["accelerator"] = "gpu" if torch.cuda.is_available() else "cpu"
    _check_devices(keys["accelerator"], keys["devices"])
    if keys["precision"] == "auto":
        keys["precision"] = best_precision(keys["accelerator"])
    if profiler := keys.get("profiler"):
        keys["profiler"] = PROFILERS[profiler](dirpath=root, filename="profile")  # fit-profile.txt in the run's folder
    ours = {
        "enable_model_summary": False,
        "enable_progress_bar": any(isinstance(callback, ProgressBar) for callback in callbacks),
        "num_sanity_val_steps": 0,
        "default_root_dir": root,
    }
    try:
        return pl.Trainer(
            **ours | {key: value for key, value in keys.items() if value is not None},
            callbacks=list(callbacks),
            logger=list(loggers),
            plugins=[AtomicCheckpoints(), *_cluster()],
            use_distributed_sampler=False,  # the samplers know the ranks themselves
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"The trainer's keys do not fit together: {error}") from error


def _cluster() -> list[ClusterEnvironment]:
    """SLURM without Lightning's requeueing, whose checkpoints are of the middle of an epoch."""
    if SLURMEnvironment.detect() and not TorchElasticEnvironment.detect():
        return [SLURMEnvironment(auto_requeue=False)]
    return []  # Lightning finds any other by itself


def exact_where_narrow(cfg: DictConfig, module: MPANetModule, height: int, width: int) -> DictConfig:
    """`auto` is float32 on a CPU where maps are one pixel wide: oneDNN's bf16 convolutions into such are wrong."""
    on_gpu = cfg.accelerator == "gpu" or (cfg.accelerator == "auto" and torch.cuda.is_available())
    if cfg.precision != "auto" or on_gpu:
        return cfg
    training = module.training
    with torch.inference_mode():
        maps = module.eval().embed(torch.zeros(2, 3, height, width), torch.tensor([False, True])).maps
    module.train(training)
    return OmegaConf.merge(cfg, {"precision": "32-true"}) if maps.shape[-1] == 1 else cfg  # type: ignore[return-value]


def _check_devices(accelerator: str, devices: Any) -> None:
    if accelerator != "gpu":
        return
    found = torch.cuda.device_count()
    if not found:
        raise UserError("There is no GPU here that torch can use: run with trainer=cpu or trainer=auto.")
    if isinstance(devices, int) and devices > found:
        raise UserError(f"trainer.devices={devices} asks for more than the {found} GPU(s) of this machine.")


@contextmanager
def failures_explained(folder: Path) -> Iterator[None]:
    """What stops a run, in a sentence that says how to go on."""
    try:
        yield
    except RunStopped as stop:
        raise RunStopped(f"{stop}\n{_how_to_go_on(folder)}") from stop
    except (SystemExit, KeyboardInterrupt) as stop:  # Lightning answers Ctrl-C with the first
        _stop(folder, stop)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as fault:
        if isinstance(fault, UserError):
            raise
        if any(isinstance(buried, KeyboardInterrupt) for buried in _down_to_the_cause(fault)):
            _stop(folder, fault)
        if _is_restoring(fault):
            raise UserError(
                f"{folder / LAST} does not fit the run that its config.yaml describes: {_first_lines(fault)} "
                "Nothing was changed: put the right file there, or begin a new run."
            ) from fault
        if (why := _why_it_stopped(fault, folder)) is None:
            raise
        raise RunStopped(f"{why}\n{_how_to_go_on(folder)}") from fault


def _stop(folder: Path, stop: BaseException) -> NoReturn:
    if not is_child_rank():
        print(f"\nStopped. {_how_to_go_on(folder)}", file=sys.stderr)
    raise SystemExit(STOPPED) from stop


def _how_to_go_on(folder: Path) -> str:
    again = f"python -m mpanet_pl.train {typed('resume', folder)}"
    if (folder / LAST).exists():
        return f"The last finished epoch is kept. Continue with: {again}"
    return f"No epoch was finished yet. Begin again with: {again}"


def _is_restoring(fault: BaseException) -> bool:
    """Whether Lightning was putting a checkpoint's content in its place."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(fault.__traceback__)]
    return any("checkpoint_connector" in code.co_filename and "dump" not in code.co_name for code in codes)


def _first_lines(fault: BaseException) -> str:
    """torch lists every key that does not fit."""
    lines = str(fault).splitlines()
    return " ".join(line.strip() for line in lines[:2]) + (
        f" … ({len(lines) - 2} more lines)" if len(lines) > 2 else ""
    )


def _down_to_the_cause(fault: BaseException | None) -> Iterator[BaseException]:
    """torch buries a full disk, or Ctrl-C, under what it could not finish."""
    while fault is not None:
        yield fault
        fault = fault.__cause__ or fault.__context__


def _why_it_stopped(fault: BaseException, folder: Path) -> str | None:
    """Of what the machine lacked; None where it is something else."""
    for buried in _down_to_the_cause(fault):
        if isinstance(buried, OSError) and buried.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return f"{folder} cannot take more: {buried.strerror}. Free some space."
    if isinstance(fault, torch.OutOfMemoryError) or "can't allocate memory" in str(fault):
        return "Out of memory. Lower data.identities_per_batch, or halve the bytes with trainer.precision=bf16-mixed."
    if torch.distributed.is_initialized() and re.search("Connection (closed|reset|refused)", str(fault)):
        return "Another process of this run has ended; what it said stands above."
    return None
