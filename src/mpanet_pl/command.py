"""The commands' common door: a configuration in, a user's mistake out as one sentence.

Everything that Hydra knows stays here, in `configuration` and in the commands.
"""

from __future__ import annotations

import os
import re
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

from mpanet_pl.configuration import check, config_folder, plain
from mpanet_pl.errors import RunStopped, UserError

MISTAKES = (UserError, RunStopped, HydraException, OmegaConfBaseException, OSError)
CHILD_CONFIG = "MPANET_PL_CHILD_CONFIG"  # tells the ranks that a run starts which composed configuration is theirs


def run_command(name: str, task: Callable[[DictConfig], None]) -> None:
    """Run `task` on the configuration that `conf/NAME.yaml` and the command line compose."""
    sys.argv[1:] = [_at_home(argument) for argument in sys.argv[1:]]
    asked = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes errors on; what to show of them is decided here
    try:
        _run(name, task)
    except KeyboardInterrupt:
        print(f"\n{name}: stopped", file=sys.stderr)
        sys.exit(130)
    except MISTAKES as error:
        if asked not in ("", "0"):
            raise
        mistake = _root(error)
        print(f"{name}: {_sentence(mistake)}", file=sys.stderr)
        sys.exit(1 if isinstance(mistake, RunStopped | OSError) else 2)
    finally:
        os.environ["HYDRA_FULL_ERROR"] = asked


def _run(name: str, task: Callable[[DictConfig], None]) -> None:
    if is_child_rank():
        task(OmegaConf.create(plain(OmegaConf.load(os.environ[CHILD_CONFIG]))))  # type: ignore[arg-type]
        return
    arguments = sys.argv[1:]
    if not any(argument.startswith("-") and argument not in ("-m", "--multirun") for argument in arguments):
        check(name, arguments)
    mistakes: list[Exception] = []

    def single_or_job(cfg: DictConfig) -> None:
        try:
            if missing := [str(key) for key in cfg if OmegaConf.is_missing(cfg, key)]:
                raise UserError(f"Add {', '.join(f'{key}=…' for key in missing)}. --help shows examples.")
            task(cfg)
        except MISTAKES as mistake:
            if folder := sweep_folder():
                with suppress(OSError):
                    folder.rmdir()  # goes only where nothing was run
                raise  # after the other jobs, Hydra says which one it was
            mistakes.append(mistake)

    hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=name)(single_or_job)()
    if mistakes:
        raise mistakes[0]


def _at_home(argument: str) -> str:
    """KEY=~/… as a path, which not every shell makes of it.

    >>> _at_home("data_dir=~/sysu") == f"data_dir={Path.home()}/sysu"
    True
    """
    return re.sub(r"^([^=]+=['\"]?)~(?=/)", lambda key: f"{key[1]}{Path.home()}", argument)


def is_child_rank() -> bool:
    """Whether this process was started by a run on the same machine, as one of its further ranks."""
    return CHILD_CONFIG in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def sweep_folder() -> Path | None:
    """The folder of this job of a multirun; None in a single run."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        return Path(HydraConfig.get().runtime.output_dir)
    return None


def overrides_given() -> list[str]:
    """The overrides of this run as they were typed, each a KEY=VALUE."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _sentence(mistake: BaseException) -> str:
    if isinstance(mistake, OSError) and mistake.filename:
        return f"{mistake.filename}: {mistake.strerror}"
    return str(mistake).strip()


def _root(error: BaseException) -> BaseException:
    """The error itself, or the user's mistake that Hydra wrapped."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError | RunStopped):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error
