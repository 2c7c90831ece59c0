"""Hydra, run on what was typed: composed and checked, then one call of the task, or one for each job of a sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mpanet_pl import __version__
from mpanet_pl.cli.command import Task, is_mistake, root, sentence
from mpanet_pl.cli.configuration import check, config_folder, readable, with_overrides
from mpanet_pl.cli.reading import conformed
from mpanet_pl.errors import UserError
from mpanet_pl.run.configuration import Request, plain
from mpanet_pl.system.processes import child_config, forget_half_of_slurm, is_child_rank, rank_of_outer_launcher
from mpanet_pl.system.targets import see_own_files

NOT_TAKEN = ("config_path", "config_name", "experimental_rerun")


def compose_and_run(name: str, task: Task, arguments: Sequence[str]) -> None:
    if is_child_rank():
        see_own_files()
        task(OmegaConf.create(plain(OmegaConf.load(child_config()))), Request())  # type: ignore[arg-type]
        return
    if "--version" in arguments:  # Hydra would tell its own
        print(__version__)
        return
    _check_surroundings()
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    asked = parser.parse_intermixed_args(arguments)
    if refused := [f"--{flag.replace('_', '-')}" for flag in NOT_TAKEN if getattr(asked, flag)]:
        raise UserError(f"{refused[0]} is not taken: a configuration of your own goes to --config-dir.")
    asked.overrides = [readable(name, argument, several=asked.multirun) for argument in asked.overrides]
    if not (asked.help or asked.hydra_help or asked.shell_completion):
        asked.overrides = check(name, asked.overrides, several=asked.multirun, config_dir=asked.config_dir)
    mistakes: list[Exception] = []
    said = os.environ.get("HYDRA_FULL_ERROR", "0")

    def job(cfg: DictConfig) -> object:
        request = _request(name)
        see_own_files()  # a launcher's process may be another
        try:
            os.environ["HYDRA_FULL_ERROR"] = said  # for the processes that the task starts
            return task(conformed(name, cfg), request)
        except Exception as mistake:
            if not is_mistake(mistake):
                raise
            if folder := request.job_folder:
                print(f"{name}: {folder}: {sentence(root(mistake))}", file=sys.stderr)
                with suppress(OSError):
                    folder.rmdir()  # goes only where nothing was run
                raise  # after the other jobs, Hydra says which one it was
            mistakes.append(mistake)
            return None
        finally:
            os.environ["HYDRA_FULL_ERROR"] = "1"

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes errors on; what to show of them is the door's to decide
    try:
        _run_hydra(asked, parser, job, str(config_folder()), name)
    finally:
        os.environ["HYDRA_FULL_ERROR"] = said
    if mistakes:
        raise mistakes[0]


def _refuse(message: str) -> NoReturn:
    raise UserError(f"{message}. --help shows examples.")


def _check_surroundings() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("The folder that you are in was deleted: change to another.") from None
    forget_half_of_slurm()
    rank_of_outer_launcher()  # says what of the environment is no number


def _request(name: str) -> Request:
    hydra_config = HydraConfig.get()
    sweeps = hydra_config.mode == RunMode.MULTIRUN
    folder = Path(hydra_config.runtime.output_dir) if sweeps else None
    typed = tuple(text.lstrip("+") for text in hydra_config.overrides.task)
    return Request(typed, folder, partial(with_overrides, name))
