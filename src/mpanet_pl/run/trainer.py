"""Lightning's trainer from its keys, and what can go wrong while it runs, in sentences."""

import errno
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.plugins.environments import ClusterEnvironment, SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from mpanet_pl.errors import RunStopped, UserError, down_to_the_cause
from mpanet_pl.module import MPANetModule
from mpanet_pl.run.callbacks import AtomicCheckpoints
from mpanet_pl.run.callbacks.checkpoints import LAST
from mpanet_pl.system.hints import Range
from mpanet_pl.system.precision import best_precision
from mpanet_pl.system.processes import STOPPED, is_child_rank
from mpanet_pl.system.ranges import Count, Weight, number, parameters, read_all
from mpanet_pl.system.shell import typed

PROFILERS: dict[str, Callable[..., Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}


def _elsewhere(instead: str, *harmless: Any) -> Any:
    """What a run decides itself, and how to say it."""
    return Annotated[Any, Range(f"left out; use {instead}", lambda value: value in harmless)]


def _batches(words: str, fits: Callable[[float], bool]) -> Any:
    words += " (a number of batches, or a share up to 1.0)"
    return Annotated[int | float, Range(words, lambda value: fits(value) and (isinstance(value, int) or value <= 1))]


BATCHES = _batches("more than 0", lambda value: value > 0)
DURATION = Range("DAYS:HOURS:MINUTES:SECONDS", lambda text: bool(re.fullmatch(r"\d+(:\d\d){3}", text)))
FROM_NONE = Annotated[int, number(-1)]
DEVICES = Range("a number of devices, or a list of them", lambda value: value not in ("", []))
KEYS: dict[str, Any] = parameters(pl.Trainer)[0] | {  # Lightning's own, but for these, whose range it does not say
    "accelerator": Literal["auto", "cpu", "gpu"],  # the augmentation's hash needs float64, which Apple's GPUs lack
    "precision": Literal["auto", "32-true", "bf16-mixed", "16-mixed"],  # what losses in float32 go with
    "strategy": Literal["auto", "ddp", "ddp_find_unused_parameters_true"],  # whose gradients are means over the ranks
    "devices": Annotated[int | str | list[int], DEVICES],
    "num_nodes": Count,
    "max_epochs": Count,
    "max_steps": FROM_NONE,
    "max_time": Annotated[str, DURATION] | None,
    "limit_train_batches": BATCHES | None,
    "limit_val_batches": _batches("at least 0", lambda value: value >= 0) | None,
    "val_check_interval": BATCHES | None,
    "check_val_every_n_epoch": Count | None,
    "num_sanity_val_steps": FROM_NONE | None,
    "log_every_n_steps": Count,
    "accumulate_grad_batches": Count,
    "gradient_clip_val": Weight | None,
    "gradient_clip_algorithm": Literal["norm", "value"] | None,
    "deterministic": bool | Literal["warn"] | None,
    "profiler": Literal["simple", "advanced", "pytorch"] | None,
    "callbacks": _elsewhere("+callbacks.NAME={_target_: …}"),
    "logger": _elsewhere("logger=… or +logger.NAME={_target_: …}"),
    "plugins": _elsewhere("Python, with a Trainer of your own"),
    "fast_dev_run": _elsewhere("trainer.max_epochs=1 trainer.limit_train_batches=2", False, 0),
    "overfit_batches": _elsewhere("trainer.limit_train_batches=…", 0),
    "limit_test_batches": _elsewhere("nothing: a table is of all test images", 1.0),
    "limit_predict_batches": _elsewhere("nothing: a run predicts nothing", 1.0),
    "use_distributed_sampler": _elsewhere("nothing: the samplers know the ranks"),
}
TAKEN_OUT = ("callbacks", "logger", "plugins", "fast_dev_run", "overfit_batches", "use_distributed_sampler")


def build_trainer(
    cfg: DictConfig,
    callbacks: Sequence[pl.Callback] = (),
    loggers: Sequence[Any] = (),
    root: Path | None = None,
) -> pl.Trainer:
    """Any key of `pl.Trainer` may be given; `root` is where Lightning's own files go, the run's folder."""
    keys: dict[str, Any] = {str(key): value for key, value in OmegaConf.to_container(cfg, resolve=True).items()}  # type: ignore[union-attr]
    read_all(KEYS, keys, "trainer.")
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
            **ours | {key: value for key, value in keys.items() if value is not None and key not in TAKEN_OUT},
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
        if any(isinstance(buried, KeyboardInterrupt) for buried in down_to_the_cause(fault)):
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


def _why_it_stopped(fault: BaseException, folder: Path) -> str | None:
    """Of what the machine lacked; None where it is something else."""
    for buried in down_to_the_cause(fault):
        if isinstance(buried, OSError) and buried.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return f"{folder} cannot take more: {buried.strerror}. Free some space."
    if isinstance(fault, torch.OutOfMemoryError) or "can't allocate memory" in str(fault):
        return "Out of memory. Lower data.identities_per_batch, or halve the bytes with trainer.precision=bf16-mixed."
    if torch.distributed.is_initialized() and re.search("Connection (closed|reset|refused)", str(fault)):
        return "Another process of this run has ended; what it said stands above."
    return None
