"""One call of a command's task on the configuration that was typed, or, through Hydra, one for each job of a sweep."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mpanet_pl import __version__
from mpanet_pl.cli.configuration import check, config_folder, keys_of, with_overrides
from mpanet_pl.cli.conforming import conformed
from mpanet_pl.cli.mistakes import Arguments, is_mistake, root, sentence
from mpanet_pl.cli.overrides import readable
from mpanet_pl.errors import UserError
from mpanet_pl.run.request import Request
from mpanet_pl.run.settings import plain
from mpanet_pl.system.keys import nearest
from mpanet_pl.system.processes import child_config, forget_half_of_slurm, is_child_rank, rank_of_outer_launcher
from mpanet_pl.system.targets import see_own_files

Task = Callable[[DictConfig, Request], object]  # what it gives is a sweeper's to judge the job by
ALONE = ("cfg", "info", "run", "multirun", "shell_completion")  # Hydra takes one of them
SHOWING = ("help", "hydra_help", "shell_completion")


def compose_and_run(name: str, task: Task, arguments: Sequence[str]) -> None:
    if is_child_rank():
        see_own_files()
        task(OmegaConf.create(plain(OmegaConf.load(child_config()))), Request())  # type: ignore[arg-type]
        return
    if "--version" in arguments:  # Hydra would tell its own
        print(__version__)
        return
    _check_surroundings()
    asked, flags = _asked(name, arguments)
    if any(getattr(asked, flag) for flag in SHOWING):
        return _through_hydra(name, _job(name, task, []), arguments)
    overrides = [readable(name, argument, several=asked.multirun) for argument in asked.overrides]
    checked = check(name, overrides, several=asked.multirun, config_dir=asked.config_dir)
    if flags or checked.several or any("hydra" in text for text in overrides):
        mistakes: list[Exception] = []
        _through_hydra(name, _job(name, task, mistakes), [*flags, *checked.overrides])
        if mistakes:
            raise mistakes[0]
    else:
        see_own_files()
        task(checked.cfg, _request(name, overrides))


def _asked(name: str, arguments: Sequence[str]) -> tuple[Namespace, list[str]]:
    """What is asked of Hydra, and in which words."""
    parser = Arguments(name, add_help=False, allow_abbrev=False)
    for flag in ("--help -h", "--hydra-help", "--resolve", "--run -r", "--multirun -m", "--shell-completion -sc"):
        parser.add_argument(*flag.split(), action="store_true")
    for flag in ("--cfg -c", "--package -p", "--config-dir -cd"):
        parser.add_argument(*flag.split())
    parser.add_argument("--info", "-i", nargs="?", const="all")
    parser.add_argument("overrides", nargs="*")
    asked, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise UserError(_no_option(name, unknown[0].partition("=")[0]))
    alone = [f"--{flag.replace('_', '-')}" for flag in ALONE if getattr(asked, flag)]
    if len(alone) > 1:
        raise UserError(
            f"{' and '.join(alone)} do not go together: leave one out. (--cfg shows one run's configuration.)"
        )
    if asked.resolve and not asked.cfg:
        raise UserError("--resolve goes with --cfg job.")
    return asked, [argument for argument in arguments if argument not in asked.overrides]


def _no_option(name: str, flag: str) -> str:
    if flag.startswith("--config") or flag in ("-cp", "-cn"):
        return f"{flag} is not taken: a configuration of your own goes to --config-dir."
    near = nearest(flag.strip("-").replace("-", "_"), keys_of(name))
    return f"There is no option {flag}: keys are typed KEY=VALUE.{near}"


def _through_hydra(name: str, job: Callable[[DictConfig], object], arguments: Sequence[str]) -> None:
    argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR", "0")
    sys.argv = [argv[0], *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes errors on; what to show of them is the door's to decide
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=name)(job)()
    finally:
        sys.argv, os.environ["HYDRA_FULL_ERROR"] = argv, full


def _job(name: str, task: Task, mistakes: list[Exception]) -> Callable[[DictConfig], object]:
    """What Hydra calls, for each job of a sweep in a process of its launcher's; a single run's mistake is kept."""
    full = os.environ.get("HYDRA_FULL_ERROR", "0")

    def job(cfg: DictConfig) -> object:
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir) if settings.mode == RunMode.MULTIRUN else None
        see_own_files()
        try:
            os.environ["HYDRA_FULL_ERROR"] = full  # for the processes that the task starts
            return task(conformed(name, cfg), _request(name, settings.overrides.task, folder))
        except Exception as mistake:
            if not is_mistake(mistake):
                raise
            if folder:
                print(f"{name}: {folder}: {sentence(root(mistake))}", file=sys.stderr)
                with suppress(OSError):
                    folder.rmdir()  # goes only where nothing was run
                raise  # after the other jobs, Hydra says which one it was
            mistakes.append(mistake)
            return None
        finally:
            os.environ["HYDRA_FULL_ERROR"] = "1"

    return job


def _request(name: str, overrides: Sequence[str], folder: Path | None = None) -> Request:
    return Request(tuple(text.lstrip("+") for text in overrides), folder, partial(with_overrides, name))


def _check_surroundings() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("The folder that you are in was deleted: change to another.") from None
    forget_half_of_slurm()
    rank_of_outer_launcher()  # says what of the environment is no number
