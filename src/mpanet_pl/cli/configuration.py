"""What was typed, checked before anything runs: every key, group and value, of every job of a sweep.

Hydra composes the choices of groups; each value is then read as the command's schema says. All faults are told at once,
with the nearest valid name, and leave no folder behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from mpanet_pl.cli.reading import Faults, Typed, is_within, leaves, nearest
from mpanet_pl.errors import UserError
from mpanet_pl.run.configuration import plain
from mpanet_pl.system.shell import quoted


def config_folder() -> Path:
    """Inside the package when installed from a wheel, beside src/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(folder for folder in (package / "conf", package.parents[1] / "conf") if folder.is_dir())


def check(name: str, typed: Sequence[str], *, several: bool = False, config_dir: str | None = None) -> list[str]:
    """What Hydra is to be given for what was typed; a UserError tells all that is wrong with any job of a sweep."""
    faults = Faults()
    with _loader(config_dir, parse(typed)) as loader:
        overrides = parse(typed, loader)
        hydras = [override for override in overrides if override.key_or_group.startswith(("hydra.", "hydra/"))]
        defaults = _groups(loader, name)
        sound: list[Override] = []
        for override in overrides:
            if override not in hydras and _is_group(override, loader):
                with faults.gathered():
                    _check_choice(override, loader, defaults)
                    sound.append(override)
        compose = cache(partial(_compose, loader, name))
        first = compose(_lines([*hydras, *(run for override in sound for run in _runs(override)[:1])]))
        with faults.gathered():
            _check_direction(name, first.hydra.sweeper)
        swept = parse([f"{key}={value}" for key, value in (first.hydra.sweeper.get("params") or {}).items()], loader)
        sound += [override for override in swept if _is_group(override, loader)]
        values = [
            override
            for override in [*swept, *overrides]
            if override not in hydras and not _is_group(override, loader) and not override.is_delete()
        ]
        several = several or first.hydra.mode == RunMode.MULTIRUN
        for override in overrides:
            with faults.gathered():
                _check_form(override, several=several)
        absent: set[str] = set()
        for choices in product(*map(_runs, sound)):
            with faults.gathered():
                tree = plain(compose(_lines([*hydras, *choices])))
                absent |= _check_values(name, tree, [run for value in values for run in _runs(value)], faults)
    faults.tell()
    return [
        f"++{(override.input_line or '').lstrip('+')}"
        if override in values and override.key_or_group in absent
        else override.input_line or ""
        for override in overrides
    ]


def _check_values(name: str, tree: dict[str, Any], values: Sequence[Override], faults: Faults) -> set[str]:
    """Against the schema, in a configuration that groups composed; those that it lacks."""
    del tree["hydra"]
    asked = [(override, *leaf) for override in values for leaf in leaves(override.value(), override.key_or_group)]
    whole = OmegaConf.create(tree)
    for _, key, value in asked:
        if key.endswith("._target_"):
            OmegaConf.update(whole, key, value, force_add=True)
    typed, before = Typed(name, plain(whole)), dict(leaves(tree))
    for key, value in before.items():
        if not is_within(key, typed.passengers):
            with faults.gathered():
                _read(typed, whole, key, value)
    for override, key, value in asked:
        with faults.gathered():
            if override.is_add() and before.get(key, "???") != "???":
                raise UserError(f"There is a key {key} already: write it without the +.")
            if key == "trial" and value is not None and _has_no_trials(tree):
                raise UserError(f"dataset={tree['dataset']} has no trials: leave out {override.input_line}.")
            _read(typed, whole, key, value)
    missing = [key for key in tree if tree[key] == "???" and key not in {key for _, key, _ in asked}]
    if missing:
        with faults.gathered():
            raise UserError(f"Add {', '.join(f'{key}=…' for key in missing)}. --help shows examples.")
    return {override.key_or_group for override, key, _ in asked if key not in before}


def _check_direction(name: str, sweeper: DictConfig) -> None:
    """What `train` gives its sweeper is a score, and a sweeper's own habit is to make a number small."""
    if name == "train" and "minimize" in str(sweeper.get("direction")):
        raise UserError("A score is to be large: add hydra.sweeper.direction=maximize.")


def _has_no_trials(tree: Mapping[str, Any]) -> bool:
    return bool(tree.get("dataset")) and "${trial}" not in str(tree["data"]["dataset"])


def _read(typed: Typed, whole: DictConfig, key: str, value: Any) -> None:
    typed.read(key, value)
    OmegaConf.update(whole, key, value, merge=False, force_add=True)
    if "${" not in str(value):
        return
    try:
        typed.read(key, OmegaConf.select(whole, key))
    except InterpolationToMissingValueError:
        pass  # what it refers to is asked for by its own name
    except OmegaConfBaseException as error:
        raise UserError(f"{key}={value} cannot be resolved: {_one_line(error)}") from error


def _check_form(override: Override, *, several: bool) -> None:
    if override.is_delete():
        raise UserError(f"'{override.input_line}' would take away what the command needs: give it another value.")
    if override.is_sweep_override() and not several:
        raise UserError(f"{override.input_line} asks for several runs: add -m. (A list is written key=[a,b].)")
    if override.is_discrete_sweep() and not _runs(override):
        raise UserError(f"{override.input_line} is an empty list: there would be no run.")


def _is_group(override: Override, loader: ConfigLoader) -> bool:
    is_value = override.is_delete() or isinstance(override.value(), dict)
    return not is_value and bool(loader.get_group_options(override.key_or_group))


def _check_choice(override: Override, loader: ConfigLoader, defaults: Mapping[str, Any]) -> None:
    group = override.key_or_group
    choices = loader.get_group_options(group)
    if (group in defaults) == override.is_add():
        known = ", ".join(name for name in defaults if not name.startswith("hydra/"))
        raise UserError(f"There is {'a' if override.is_add() else 'no'} group '{group}' here; its groups are {known}.")
    for run in _runs(override):
        asked = run.value()
        for choice in asked if isinstance(asked, list) else [asked]:
            if not isinstance(choice, str) and not (choice is None and defaults[group] is None):
                raise UserError(f"A group takes the name of one of its choices: {run.input_line}.")
            if isinstance(choice, str) and choice not in choices:
                raise UserError(
                    f"{group} has no '{choice}'.{nearest(choice, choices)} It is one of: {', '.join(choices)}."
                )


def _runs(override: Override) -> list[Override]:
    """One override for each value that a sweep lists; of an interval, which its sweeper draws from, its two ends."""
    if not override.is_sweep_override():
        return [override]
    value = override.value()
    if isinstance(value, IntervalSweep):
        return parse([f"{override.get_key_element()}={end}" for end in (value.start, value.end)])
    if not override.is_discrete_sweep():
        return []
    return parse([f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()])


def _lines(overrides: Sequence[Override]) -> tuple[str, ...]:
    return tuple(override.input_line or "" for override in overrides)


@contextmanager
def _loader(config_dir: str | None, overrides: Sequence[Override]) -> Iterator[ConfigLoader]:
    """Hydra's, of this package's files and those of the user's own folders."""
    searched = [override.value() for override in overrides if override.key_or_group == "hydra.searchpath"]
    folders = [f"file://{Path(config_dir).absolute()}"] if config_dir else []
    folders += [str(folder) for value in searched if isinstance(value, list) for folder in value]
    path = create_config_search_path(str(config_folder()))
    for folder in folders:
        place = Path(folder.removeprefix("file://"))
        if not folder.startswith("pkg://") and not place.is_dir():
            raise UserError(f"There is no folder {place} to search for configurations.")
        path.prepend("command-line", folder, anchor=SearchPathQuery(provider="schema"))
    version.setbase("1.3")
    try:
        yield Hydra.create_main_hydra2("mpanet_pl", path).config_loader
    finally:
        GlobalHydra.instance().clear()


def _groups(loader: ConfigLoader, name: str) -> dict[str, Any]:
    """Each group of a command, with the choice that stands by default."""
    defaults = loader.compute_defaults_list(name, [], RunMode.RUN)
    listed = [(default.config_path or "").rpartition("/") for default in defaults.defaults]
    return {group: choice for group, _, choice in listed if group} | defaults.overrides.known_choices


def _compose(loader: ConfigLoader, name: str, overrides: Sequence[str]) -> DictConfig:
    try:
        return loader.load_configuration(name, list(overrides), RunMode.RUN, from_shell=False)
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError) as error:
        if key := getattr(error.__cause__, "full_key", None):
            raise UserError(f"There is no key '{key}', or it cannot have this value: {' '.join(overrides)}.") from error
        raise UserError(_one_line(error) or f"These do not go together: {' '.join(overrides)}.") from error


def parse(typed: Sequence[str], groups: ConfigLoader | None = None) -> list[Override]:
    """`groups` are what a glob() chooses from."""
    for text in typed:
        if not re.match(r"(\+*[\w./@:-]+=|~)", text):
            raise UserError(f"'{text}' is not KEY=VALUE.")
    try:
        return OverridesParser.create(groups).parse_overrides(list(typed))
    except HydraException as error:
        raise UserError(f"Not understood, {_one_line(error)}. An argument is KEY=VALUE.") from error


def readable(name: str, argument: str, *, several: bool = False) -> str:
    """KEY=VALUE with ~/ for a home, and its value quoted where the grammar stumbles over it or reads a text, such as a
    folder's name, as a number. Of `several` runs a comma may part the values, which nobody else can quote.

    >>> print(readable("train", "data_dir=/josé/x=1"), readable("train", "trial=1,2"), readable("train", "resume=3"))
    data_dir="/josé/x=1" trial=1,2 resume="3"
    """
    if not (parts := re.fullmatch(r"([\w./@:+]+=)(['\"]?)(~(?=/))?(.*)", argument, re.DOTALL)):
        return argument
    key, quote, home, rest = parts.groups()
    value = quote + (str(Path.home()) if home else "") + rest
    try:
        parsed = OverridesParser.create().parse_override(key + value)
        as_it_stands = isinstance(parsed.value(), int | float) and Typed(name, {}).is_text(key.strip("+="))
    except HydraException:
        as_it_stands = not (several and "," in value)
    return key + (quoted(value) if as_it_stands else value)


def with_overrides(name: str, cfg: DictConfig, typed: Sequence[str]) -> DictConfig:
    """A copy of a configuration with typed KEY=VALUE overrides on top, every key that the schema knows checked.

    >>> with_overrides("train", OmegaConf.create({"trainer": {"max_epochs": 1}}), ["trainer.max_epochs=2"])
    {'trainer': {'max_epochs': 2}}
    """
    tree = plain(cfg)
    cfg, schema, faults = OmegaConf.create(tree), Typed(name, tree), Faults()
    asked = [leaf for override in parse(typed) for leaf in leaves(override.value(), override.key_or_group)]
    for key, value in [*((key, value) for key, value in leaves(tree) if key in schema.keys), *asked]:
        with faults.gathered():
            OmegaConf.update(cfg, key, schema.read(key, value), merge=False, force_add=True)
    faults.tell()
    return cfg


def _one_line(error: Exception) -> str:
    """What Hydra said, without its pointer to the grammar."""
    return "; ".join(line for line in str(error).strip().splitlines() if line and not line.startswith("See https"))
