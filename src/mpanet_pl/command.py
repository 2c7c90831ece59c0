"""The commands' common door: where conf/ is, what was asked for, and a user's mistake as one sentence.

Everything that Hydra knows stays here and in the commands. A configuration is composed and checked before anything
runs, every job of a sweep included, so that a misspelt key costs a second and leaves no folder behind.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mpanet_pl.errors import RunStopped, UserError

Task = Callable[[DictConfig], None]
CHILD_CONFIG = "MPANET_PL_CHILD_CONFIG"  # tells the ranks that a run starts which composed configuration is theirs


OmegaConf.register_new_resolver("existing", lambda path: path if Path(path).is_file() else None, replace=True)


def config_folder() -> Path:
    """Inside the package when installed from a wheel, beside src/ in a checkout."""
    package = Path(__file__).resolve().parent
    return next(folder for folder in (package / "conf", package.parents[1] / "conf") if folder.is_dir())


def run_command(name: str, task: Task) -> None:
    """Run `task` on the configuration that `conf/NAME.yaml` and the command line compose."""
    asked = os.environ.get("HYDRA_FULL_ERROR", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra passes errors on; what to show of them is decided here
    try:
        _run(name, task)
    except KeyboardInterrupt:
        sys.exit(f"\n{name}: stopped")
    except (UserError, RunStopped, HydraException, OmegaConfBaseException) as error:
        if asked not in ("", "0"):
            raise
        root = _root(error)
        print(f"{name}: {str(root).strip()}", file=sys.stderr)
        sys.exit(1 if isinstance(root, RunStopped) else 2)
    finally:
        os.environ["HYDRA_FULL_ERROR"] = asked


def _run(name: str, task: Task) -> None:
    if is_child_rank():
        task(_as_config(OmegaConf.load(os.environ[CHILD_CONFIG])))
        return
    arguments = sys.argv[1:]
    if not any(argument.startswith("-") and argument not in ("-m", "--multirun") for argument in arguments):
        _check(name, arguments)
    mistakes: list[Exception] = []

    def single_or_job(cfg: DictConfig) -> None:
        try:
            task(cfg)
        except (UserError, RunStopped, HydraException) as mistake:
            if sweep_folder():
                raise  # Hydra says which job it was, after the other jobs
            mistakes.append(mistake)

    hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=name)(single_or_job)()
    if mistakes:
        raise mistakes[0]


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


def with_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A copy of a configuration with typed KEY=VALUE overrides on top; the keys must exist in it.

    >>> with_overrides(OmegaConf.create({"trainer": {"max_epochs": 1}}), ["trainer.max_epochs=2"])
    {'trainer': {'max_epochs': 2}}
    """
    cfg = _as_config(OmegaConf.create(OmegaConf.to_container(cfg)))
    for override in _parse(overrides):
        key = override.key_or_group
        if key not in _keys(cfg):
            raise UserError(_unknown_key(key, cfg))
        OmegaConf.update(cfg, key, override.value())
    return cfg


# --- checking before running


def _check(name: str, arguments: Sequence[str]) -> None:
    """Compose every job that the arguments ask for; raise the first mistake as a UserError."""
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    parsed = _parse(overrides)
    sweeps = [override.input_line for override in parsed if override.is_sweep_override()]
    if sweeps and len(overrides) == len(arguments):
        raise UserError(f"{sweeps[0]} asks for several runs: add -m. (A list is written key=[a,b].)")
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        for job in _jobs(parsed):
            cfg = _compose(name, job)
            _check_values(name, cfg, job)


def _parse(overrides: Sequence[str]) -> list[Override]:
    for text in overrides:
        if not re.match(r"(\+*[\w./@:-]+=|~)", text):
            raise UserError(f"'{text}' is not KEY=VALUE.")
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise UserError(
            f"Not understood, {_one_line(error)}. An argument is KEY=VALUE; quote what the shell reads."
        ) from error


def _jobs(overrides: Sequence[Override]) -> Iterator[list[str]]:
    """One list of plain overrides for each point of the sweep."""
    from itertools import product

    choices = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override() and override.is_discrete_sweep()
        else [override.input_line or ""]
        for override in overrides
    ]
    for job in product(*choices):
        yield list(job)


def _compose(name: str, overrides: list[str]) -> DictConfig:
    try:
        return hydra.compose(name, overrides=overrides)
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError) as error:
        raise UserError(_explain(error, name, overrides)) from error


def _explain(error: Exception, name: str, overrides: list[str]) -> str:
    """Hydra's complaint about a key, group or value, with the nearest valid name."""
    text = str(error)
    if match := re.search(r"Could not (?:find|override|load) '([^']+)'", text):
        wrong = match.group(1)
        group, _, choice = wrong.rpartition("/")
        if group:
            choices = GlobalHydra.instance().config_loader().get_group_options(group)
            return f"{group} has no '{choice}'.{_nearest(choice, choices)} It is one of: {', '.join(choices)}."
    if match := re.search(r"Could not (?:append|override|delete|find)[^']*'([^'=]+)", text):
        groups_only = [o for o in overrides if _is_group(o.split("=")[0])]
        return _unknown_key(match.group(1), hydra.compose(name, overrides=groups_only))
    return _one_line(error) or f"These do not go together: {' '.join(overrides)}."


def _is_group(key: str) -> bool:
    return (config_folder() / key.lstrip("+~").split("@")[0]).is_dir()


def _unknown_key(key: str, cfg: DictConfig) -> str:
    return f"There is no key '{key}'.{_nearest(key, list(_keys(cfg)))} --help lists the keys."


def _nearest(word: str, words: Sequence[str]) -> str:
    by_leaf = [key for key in words if key.rpartition(".")[2] == word.rpartition(".")[2]]
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5) or by_leaf[:1]
    return f" Did you mean '{near[0]}'?" if near else ""


def _keys(cfg: DictConfig, prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a configuration with its unresolved value."""
    found: dict[str, Any] = {}
    for key in cfg:
        value = cfg._get_node(key)
        found[prefix + str(key)] = value
        if isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation():
            found |= _keys(value, f"{prefix}{key!s}.")
    return found


def _check_values(name: str, cfg: DictConfig, overrides: list[str]) -> None:
    """A number where the configuration has a number, a switch where it has a switch, a list where it has a list."""
    values = [override for override in overrides if not _is_group(override.split("=")[0])]
    defaults = hydra.compose(name, overrides=[override for override in overrides if override not in values])
    for override in values:
        key = override.split("=")[0].lstrip("+~")
        default, value = OmegaConf.select(defaults, key), OmegaConf.select(cfg, key)
        if kind := _expected(default, value):
            raise UserError(f"{key} must be {kind}, got '{value}'.")


def _expected(default: Any, value: Any) -> str | None:
    """What a value should have been, judged by the default in its place; None where it fits."""
    from omegaconf import ListConfig

    if value is None or default is None:
        return None
    if isinstance(default, bool):
        return None if isinstance(value, bool | str) else "true or false"
    if isinstance(default, int):
        return None if isinstance(value, int | str) and _is_whole(value) else "a whole number"
    if isinstance(default, float):
        return None if isinstance(value, int | float) and not isinstance(value, bool) else "a number"
    if isinstance(default, ListConfig):
        return None if isinstance(value, ListConfig) else "a list such as [80,120]"
    if isinstance(default, DictConfig):
        return None if isinstance(value, DictConfig) else "a group of keys, not a single value"
    return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# --- saying what went wrong


def _root(error: BaseException) -> BaseException:
    """The error itself, or the user's mistake that Hydra wrapped."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError | RunStopped):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error


def _one_line(error: Exception) -> str:
    """What Hydra said, without its pointer to the grammar."""
    return "; ".join(line for line in str(error).strip().splitlines() if line and not line.startswith("See https"))


def _as_config(cfg: Any) -> DictConfig:
    assert isinstance(cfg, DictConfig)
    return cfg
