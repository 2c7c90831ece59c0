"""What was typed, checked before anything runs: every key, group and value, of every job of a sweep.

A misspelt key costs a second and leaves no folder behind; the nearest valid name is told.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mpanet_pl.errors import UserError
from mpanet_pl.run.configuration import plain
from mpanet_pl.system.shell import quoted

Kind = tuple[tuple[type, ...], str]  # what a value may be, and that in words
PATH: Kind = ((str,), "a path")
COUNT: Kind = ((int,), "a whole number")
NUMBER: Kind = ((int, float), "a number")
WORD: Kind = ((str, int, float), "a word")
SWITCH: Kind = ((bool,), "true or false")
PATH_OR_SWITCH: Kind = ((bool, str), "true, false or a path")
CHANCE: Kind = ((bool, int, float), "true, false or a probability")
NAMES: Kind = ((list,), "a list such as [a,b]")
KINDS: dict[str, Kind] = {  # of keys whose default does not show it
    **dict.fromkeys(("resume", "run_dir", "data_dir", "ckpt", "features", "save_features", "out"), PATH),
    **dict.fromkeys(("images", "gallery", "queries"), PATH),
    **dict.fromkeys(("name", "group", "only.modality", "token"), WORD),
    **dict.fromkeys(("only.after", "only.before", "only.within"), NUMBER),
    **dict.fromkeys(("only.cameras", "only.not_cameras"), NAMES),
    "trust": ((str, list), "a package, or a list such as [a,b]"),
    "compact": ((int, str), "a whole number, or the path of a gallery"),
    **dict.fromkeys(("model.network.pretrained", "data.cache"), PATH_OR_SWITCH),
    **dict.fromkeys(("data.augment.grayscale", "data.augment.channel_exchange"), CHANCE),
    **dict.fromkeys(("data.workers", "workers", "identities", "trial", "last_stride", "k1", "k2"), COUNT),
    **dict.fromkeys(("height", "width"), COUNT),
    "trainer.devices": ((int, str, list), "a number of devices, or a list of them"),
    "trainer.gradient_clip_val": NUMBER,
    "trainer.benchmark": SWITCH,
    "logger.name": ((str,), "a word"),
    **dict.fromkeys(("rerank", "name", "notes", "measure"), WORD),
    "protocol": ((dict,), "a group of keys, not a single value"),
}
BY_DEFAULT: dict[type, Kind] = {
    bool: SWITCH,
    int: COUNT,
    float: NUMBER,
    dict: ((dict,), "a group of keys, not a single value"),
    str: WORD,
}

NULLABLE = ("validation.monitor", "protocol.permutations")

OmegaConf.register_new_resolver("existing", lambda path: path if Path(path).is_file() else None, replace=True)


def config_folder() -> Path:
    """Inside the package when installed from a wheel, beside src/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(folder for folder in (package / "conf", package.parents[1] / "conf") if folder.is_dir())


def check(name: str, typed: Sequence[str], *, several: bool = False) -> None:
    """Compose every job that a command is asked for; raise the first mistake as a `UserError`."""
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        overrides = parse(typed, GlobalHydra.instance().config_loader())
        sweeps = [override.input_line for override in overrides if override.is_sweep_override()]
        if sweeps and not several:
            raise UserError(f"{sweeps[0]} asks for several runs: add -m. (A list is written key=[a,b].)")
        for job in _jobs(overrides):
            _check_values(name, _compose(name, job), job)


def parse(typed: Sequence[str], groups: ConfigLoader | None = None) -> list[Override]:
    """`groups` are what a glob() chooses from."""
    for text in typed:
        if not re.match(r"(\+*[\w./@:-]+=|~)", text):
            raise UserError(f"'{text}' is not KEY=VALUE.")
    try:
        return OverridesParser.create(groups).parse_overrides(list(typed))
    except HydraException as error:
        raise UserError(f"Not understood, {_one_line(error)}. An argument is KEY=VALUE.") from error


def readable(argument: str, *, several: bool = False) -> str:
    """KEY=VALUE with ~/ for a home, and its value quoted where the grammar stumbles over it or reads a folder's name
    as a number. Of `several` runs a comma may part the values, which nobody else can quote.

    >>> print(readable("data_dir=/home/josé/x=1"), readable("trial=1,2"), readable("data.cache=~/cache") != "~/cache")
    data_dir="/home/josé/x=1" trial=1,2 True
    """
    if not (parts := re.fullmatch(r"([\w./@:+]+=)(['\"]?)(~(?=/))?(.*)", argument, re.DOTALL)):
        return argument
    key, quote, home, rest = parts.groups()
    value = quote + (str(Path.home()) if home else "") + rest
    try:
        parsed = OverridesParser.create().parse_override(key + value)
        as_it_stands = KINDS.get(key.strip("+=")) is PATH and isinstance(parsed.value(), int | float)
    except HydraException:
        as_it_stands = not (several and "," in value)
    return key + (quoted(value) if as_it_stands else value)


def with_overrides(cfg: DictConfig, typed: Sequence[str]) -> DictConfig:
    """A copy of a configuration with typed KEY=VALUE overrides on top; the keys must exist in it.

    >>> with_overrides(OmegaConf.create({"trainer": {"max_epochs": 1}}), ["trainer.max_epochs=2"])
    {'trainer': {'max_epochs': 2}}
    """
    cfg = OmegaConf.create(plain(cfg))
    for override in parse(typed):
        key = override.key_or_group
        if key not in _keys(plain(cfg)):
            raise UserError(_unknown_key(key, cfg))
        OmegaConf.update(cfg, key, override.value())
    return cfg


def _jobs(overrides: Sequence[Override]) -> Iterator[list[str]]:
    """One list of plain overrides for each point of the sweep."""
    choices = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_discrete_sweep()
        else [override.input_line or ""]
        for override in overrides
    ]
    return map(list, product(*choices))


def _compose(name: str, overrides: list[str]) -> DictConfig:
    try:
        return hydra.compose(name, overrides=overrides)
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError) as error:
        raise UserError(_explain(error, name, overrides)) from error


def _explain(error: Exception, name: str, overrides: list[str]) -> str:
    """Hydra's complaint about a group's choice, a key, or anything else, with the nearest valid name."""
    if "Config group override must be" in str(error):
        return f"A group takes the name of one of its choices: {', '.join(filter(_is_group, overrides))}."
    if match := re.search(r"Could not (?:find|load) '([^'/]+)/([^'/]*)'", str(error)):
        group, choice = match.groups()
        choices = GlobalHydra.instance().config_loader().get_group_options(group)
        return f"{group} has no '{choice}'.{_nearest(choice, choices)} It is one of: {', '.join(choices)}."
    if match := re.search(r"Could not (?:append|override|delete|find)[^']*'([^'=]+)", str(error)):
        groups = [override for override in overrides if _is_group(override)]
        return _unknown_key(match.group(1), hydra.compose(name, overrides=groups))
    return _one_line(error) or f"These do not go together: {' '.join(overrides)}."


def _is_group(override: str) -> bool:
    return (config_folder() / re.split("[=@]", override.lstrip("+~"))[0]).is_dir()


def _unknown_key(key: str, cfg: DictConfig) -> str:
    return f"There is no key '{key}'.{_nearest(key, _keys(plain(cfg)))} --help lists the keys."


def _nearest(word: str, words: Sequence[str]) -> str:
    same_leaf = [key for key in words if key.rpartition(".")[2] == word.rpartition(".")[2]]
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5) or same_leaf
    return f" Did you mean '{near[0]}'?" if near else ""


def _keys(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every dotted key.

    >>> _keys({"data": {"height": 128}, "seed": 1})
    ['data', 'data.height', 'seed']
    """
    found = []
    for key, value in tree.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            found += _keys(value, f"{prefix}{key}.")
    return found


def _check_values(name: str, cfg: DictConfig, overrides: list[str]) -> None:
    """A number where the configuration has a number, a switch where it has a switch, a list where it has a list."""
    values = [override for override in overrides if not _is_group(override)]
    defaults = hydra.compose(name, overrides=[override for override in overrides if override not in values])
    for override in values:
        key = override.split("=")[0].lstrip("+~")
        default, value = _value(defaults, key), _value(cfg, key)
        if value is None and (default is None or key in NULLABLE):
            continue
        if expected := _expected(key, default, value):
            raise UserError(f"{key} must be {expected}, got '{value}'.")


def _value(cfg: DictConfig, key: str) -> Any:
    """In plain containers; "???" where it has to be given."""
    value = "???" if OmegaConf.is_missing(cfg, key) else OmegaConf.select(cfg, key)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _expected(key: str, default: Any, value: Any) -> str | None:
    """What a value should have been, judged by the default in its place; None where it fits."""
    if isinstance(default, list) and key not in KINDS:
        fits = isinstance(value, list) and not any(
            _expected(key, item, other) for item in default[:1] for other in value
        )
        return None if fits else f"a list such as [{','.join(map(str, default))}]"
    kinds, words = KINDS.get(key) or BY_DEFAULT.get(type(default)) or ((type(value),), "")
    return None if type(value) in kinds else words


def _one_line(error: Exception) -> str:
    """What Hydra said, without its pointer to the grammar."""
    return "; ".join(line for line in str(error).strip().splitlines() if line and not line.startswith("See https"))
