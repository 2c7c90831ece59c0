"""Hydra, run on what was typed: composed and checked, then one call of the task, or one for each job of a sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mpanet_pl.cli.command import Task, is_mistake, root, sentence
from mpanet_pl.cli.configuration import check, config_folder, readable, with_overrides
from mpanet_pl.errors import UserError
from mpanet_pl.run.configuration import Request, plain
from mpanet_pl.system.processes import child_config, is_child_rank
from mpanet_pl.system.targets import see_own_files

NOT_TAKEN = ("config_path", "config_name", "experimental_rerun")


def compose_and_run(name: str, task: Task, arguments: Sequence[str]) -> None:
    if is_child_rank():
        see_own_files()
        task(OmegaConf.create(plain(OmegaConf.load(child_config()))), Request())  # type: ignore[arg-type]
        return
    _check_surroundings()
    parser = get_args_parser()
    asked = parser.parse_intermixed_args(arguments)
    if refused := [f"--{flag.replace('_', '-')}" for flag in NOT_TAKEN if getattr(asked, flag)]:
        raise UserError(f"{refused[0]} is not taken: a configuration of your own goes to --config-dir.")
    asked.overrides = [readable(argument, several=asked.multirun) for argument in asked.overrides]
    if not (asked.help or asked.hydra_help or asked.info or asked.shell_completion):
        check(name, asked.overrides, several=asked.multirun)
    mistakes: list[Exception] = []
    said = os.environ.get("HYDRA_FULL_ERROR", "0")

    def job(cfg: DictConfig) -> None:
        request = _request()
        see_own_files()  # a launcher's process may be another
        try:
            if missing := [str(key) for key in cfg if OmegaConf.is_missing(cfg, key)]:
                raise UserError(f"Add {', '.join(f'{key}=…' for key in missing)}. --help shows examples.")
            os.environ["HYDRA_FULL_ERROR"] = said  # for the processes that the task starts
            task(cfg, request)
        except Exception as mistake:
            if not is_mistake(mistake):
                raise
            if folder := request.job_folder:
                print(f"{name}: {folder}: {sentence(root(mistake))}", file=sys.stderr)
                with suppress(OSError):
                    folder.rmdir()  # goes only where nothing was run
                raise  # after the other jobs, Hydra says which one it was
            mistakes.append(mistake)
        finally:
            os.environ["HYDRA_FULL_ERROR"] = "1"

    version.setbase("1.3")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes errors on; what to show of them is the door's to decide
    try:
        _run_hydra(asked, parser, job, str(config_folder()), name)
    finally:
        os.environ["HYDRA_FULL_ERROR"] = said
    if mistakes:
        raise mistakes[0]


def _check_surroundings() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("The folder that you are in was deleted: change to another.") from None


def _request() -> Request:
    hydra_config = HydraConfig.get()
    sweeps = hydra_config.mode == RunMode.MULTIRUN
    folder = Path(hydra_config.runtime.output_dir) if sweeps else None
    return Request(tuple(hydra_config.overrides.task), folder, with_overrides)
