"""What was typed, composed and checked before anything runs: every group, key and value, of every job of a sweep.

Hydra composes the choices of groups, once for each combination; the values go on top, and are read as the signatures
of their users say. All faults are told at once, with the nearest valid name, and leave no folder behind.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import product
from typing import NamedTuple

import hydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mpanet_pl.cli.conforming import conformed
from mpanet_pl.cli.groups import Groups
from mpanet_pl.cli.overrides import form_faults, one_line, parse, runs
from mpanet_pl.errors import Gathered, UserError
from mpanet_pl.run.settings import plain
from mpanet_pl.system.config_folders import config_folder as config_folder
from mpanet_pl.system.keys import leaves

hydra.core.config_store.ConfigStore.__deepcopy__ = lambda store, _: store  # type: ignore  # copying slows --help down


class Checked(NamedTuple):
    """A command line in which nothing is wrong."""

    overrides: list[str]  # for Hydra
    several: bool  # whether it asks for a sweep
    cfg: DictConfig  # of its one run, or the first


def check(
    name: str, typed: Sequence[str], *, several: bool = False, config_dir: str | None = None, every: bool = False
) -> Checked:
    """What was typed, composed; a `UserError` tells all that is wrong with any job of a sweep.

    Values in files are read where some of the files are the user's own, or by `every`; what `conf/` sets is tested.
    """
    faults, overrides = Gathered(), parse(typed)
    with hydra.initialize_config_dir(str(config_folder()), job_name=name, version_base="1.3"):
        groups = Groups(name, config_dir, overrides)
        hydras = [override for override in overrides if override.key_or_group.startswith(("hydra.", "hydra/"))]
        own = [override for override in overrides if override not in hydras]
        wrong = {id(override): list(groups.faults(override)) for override in own if groups.holds(override)}
        faults.add(fault for found in wrong.values() for fault in found)
        chosen = [override for override in own if wrong.get(id(override)) == []]
        every = every or bool(groups.own or groups.installed)
        compose = cache(partial(_compose, name, tuple(_settings_of_hydra(hydras, groups))))
        first = compose(_lines(run for override in chosen for run in groups.runs(override)[:1]))
        several = several or first.hydra.mode == RunMode.MULTIRUN
        faults.add(_hydra_faults(name, first.hydra))
        for override in overrides:
            faults.add(form_faults(override, several=several, count=len(groups.runs(override))))
        swept = parse([f"{key}={value}" for key, value in (first.hydra.sweeper.get("params") or {}).items()])
        chosen += [override for override in swept if groups.holds(override)]
        values = [one for one in [*swept, *own] if not (groups.holds(one) or one.is_delete())]
        found: list[DictConfig] = []
        for combination in product(*map(groups.runs, chosen)):
            with faults.going_on():
                found += _read_values(name, compose(_lines(combination)), values, every, faults)
    faults.tell()
    absent = {override.key_or_group for override in values} - {key for key, _ in leaves(plain(first))}
    return Checked([_line(override, absent) for override in overrides], several, found[0])


def keys_of(name: str) -> list[str]:
    """Those that a command has by default."""
    with hydra.initialize_config_dir(str(config_folder()), job_name=name, version_base="1.3"):
        return [key for key, _ in leaves(plain(hydra.compose(name)))]


def with_overrides(name: str, cfg: DictConfig, typed: Sequence[str]) -> DictConfig:
    """A copy of a stored configuration with typed KEY=VALUE overrides on top, every key that the signatures know read.

    >>> with_overrides("train", OmegaConf.create({"trainer": {"max_epochs": 1}}), ["trainer.max_epochs=2"])
    {'trainer': {'max_epochs': 2}}
    """
    changed = OmegaConf.create(plain(cfg))
    return conformed(name, changed, _put(changed, parse(typed)), stored=True)


def _read_values(
    name: str, composed: DictConfig, values: Sequence[Override], every: bool, faults: Gathered
) -> Iterator[DictConfig]:
    """The configuration of one combination of groups with the first of each override's values, all of them read."""
    tree = plain(composed)
    del tree["hydra"]
    cfg, each = OmegaConf.create(tree), [runs(value) for value in values]
    typed = _put(cfg, [run for some in each for run in some[:1]])
    if (
        "trial" in typed
        and cfg.trial is not None
        and tree.get("dataset")
        and "${trial}" not in str(tree["data"]["dataset"])
    ):
        faults.add([f"dataset={tree['dataset']} has no trials: leave out trial={cfg.trial}."])
    if missing := [f"{key}=…" for key in map(str, cfg) if OmegaConf.is_missing(cfg, key)]:
        faults.add([f"Add {', '.join(missing)}. --help shows examples."])
    with faults.going_on():
        yield conformed(name, cfg, typed, every=every)
    for run in (run for some in each for run in some[1:]):
        with faults.going_on():
            other = cfg.copy()
            conformed(name, other, _put(other, [run]), every=False)


def _put(cfg: DictConfig, overrides: Sequence[Override]) -> set[str]:
    """Put values where they were typed; the keys."""
    asked = [leaf for override in overrides for leaf in leaves(override.value(), override.key_or_group)]
    for key, value in asked:
        OmegaConf.update(cfg, key, value, merge=isinstance(value, dict), force_add=True)
    return {key for key, _ in asked}


def _hydra_faults(name: str, settings: DictConfig) -> Iterator[str]:
    if name == "train" and "minimize" in str(settings.sweeper.get("direction")):  # a sweeper's own habit
        yield "A score is to be large: add hydra.sweeper.direction=maximize."
    if settings.job.chdir:
        yield "hydra.job.chdir=true would look for data_dir in a job's folder: leave it out. A run writes there anyway."


def _settings_of_hydra(hydras: Sequence[Override], groups: Groups) -> Iterator[str]:
    yield from _lines(override for override in hydras if override.key_or_group != "hydra.searchpath")
    if groups.own:
        yield f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in groups.own)}]"


def _lines(overrides: Iterable[Override]) -> tuple[str, ...]:
    return tuple(override.input_line or "" for override in overrides)


def _line(override: Override, absent: Collection[str]) -> str:
    line = override.input_line or ""
    return f"++{line.lstrip('+')}" if override.key_or_group in absent else line


def _compose(name: str, hydras: Sequence[str], choices: Sequence[str]) -> DictConfig:
    asked = [*hydras, *choices]
    try:
        return hydra.compose(name, asked, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, AssertionError, ValueError) as error:
        if key := getattr(error.__cause__, "full_key", None):
            raise UserError(f"There is no key '{key}', or it cannot have this value: {' '.join(asked)}.") from error
        raise UserError(one_line(error) or f"These do not go together: {' '.join(asked)}.") from error
