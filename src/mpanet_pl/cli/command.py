"""The commands' common door: a configuration in, a user's mistake out as one sentence.

Everything that Hydra knows stays here, in `configuration` and in the commands.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mpanet_pl.cli.configuration import check, config_folder, readable, with_overrides
from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.run.configuration import Request, plain
from mpanet_pl.system.processes import STOPPED, child_config, is_child_rank

MISTAKES = (UserError, RunStopped, HydraException, OmegaConfBaseException, OSError)
Task = Callable[[DictConfig, Request], None]
MULTIRUN = ("-m", "--multirun")


def run_command(name: str, task: Task) -> None:
    """Run `task` on the configuration that `conf/NAME.yaml` and the command line compose."""
    several = any(argument in MULTIRUN for argument in sys.argv)
    arguments = [readable(argument, several=several) for argument in sys.argv[1:]]
    sys.argv[1:] = sorted(arguments, key=lambda argument: argument not in MULTIRUN)  # it has to come first
    asked = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes errors on; what to show of them is decided here
    try:
        _run(name, task, asked)
    except (KeyboardInterrupt, SystemExit) as leaving:
        if isinstance(leaving, SystemExit) and (
            leaving.code == STOPPED or not isinstance(leaving.__context__, KeyboardInterrupt)
        ):
            raise
        print(f"\n{name}: stopped", file=sys.stderr)  # Lightning answers Ctrl-C with a SystemExit of its own
        sys.exit(STOPPED)
    except MISTAKES as error:
        if asked not in ("", "0"):
            raise
        mistake = _root(error)
        print(f"{name}: {_sentence(mistake)}", file=sys.stderr)
        sys.exit(1 if isinstance(mistake, RunStopped | OSError) and not isinstance(mistake, HydraException) else 2)
    finally:
        os.environ["HYDRA_FULL_ERROR"] = asked


def _run(name: str, task: Task, full_error: str) -> None:
    if is_child_rank():
        task(OmegaConf.create(plain(OmegaConf.load(child_config()))), Request())  # type: ignore[arg-type]
        return
    arguments = sys.argv[1:]
    if not any(argument.startswith("-") and argument not in MULTIRUN for argument in arguments):
        check(name, arguments)
    mistakes: list[Exception] = []

    def single_or_job(cfg: DictConfig) -> None:
        try:
            if missing := [str(key) for key in cfg if OmegaConf.is_missing(cfg, key)]:
                raise UserError(f"Add {', '.join(f'{key}=…' for key in missing)}. --help shows examples.")
            os.environ["HYDRA_FULL_ERROR"] = full_error  # for the processes that the task starts
            task(cfg, _request())
        except MISTAKES as mistake:
            if folder := _request().job_folder:
                print(f"{name}: {folder}: {_sentence(_root(mistake))}", file=sys.stderr)
                with suppress(OSError):
                    folder.rmdir()  # goes only where nothing was run
                raise  # after the other jobs, Hydra says which one it was
            mistakes.append(mistake)
        finally:
            os.environ["HYDRA_FULL_ERROR"] = "1"

    hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=name)(single_or_job)()
    if mistakes:
        raise mistakes[0]


def _request() -> Request:
    hydra_config = HydraConfig.get()
    sweeps = hydra_config.mode == RunMode.MULTIRUN
    folder = Path(hydra_config.runtime.output_dir) if sweeps else None
    return Request(tuple(hydra_config.overrides.task), folder, with_overrides)


def _sentence(mistake: BaseException) -> str:
    if isinstance(mistake, OSError) and mistake.filename:
        return f"{mistake.filename}: {mistake.strerror}"
    wrapped_by_a_loader = f"{UserError.__module__}.{UserError.__qualname__}: "
    return str(mistake).rpartition(wrapped_by_a_loader)[2].strip()


def _root(error: BaseException) -> BaseException:
    """The error itself, or the user's mistake that Hydra wrapped."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError | RunStopped):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error
