"""A composed configuration, each value as the signature of its user has it, or sentences why not."""

from collections.abc import Collection

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from mpanet_pl.errors import Gathered, UserError
from mpanet_pl.gallery.gallery_keys import GALLERY_COMMANDS
from mpanet_pl.run.run_keys import RUN_COMMANDS, TRAIN
from mpanet_pl.run.settings import RECIPES, plain, resolved_where_known, without_recipes
from mpanet_pl.system.keys import Keys, is_within, leaves

COMMANDS = RUN_COMMANDS | GALLERY_COMMANDS
BROUGHT = {
    name: TRAIN.keys() - COMMANDS[name].keys() for name in ("evaluate", "prepare", "embed", "export")
}  # by a dataset's file


def conformed(
    name: str, cfg: DictConfig, typed: Collection[str] = (), *, every: bool = True, stored: bool = False
) -> DictConfig:
    """A composed configuration, values as their keys' types have them; a `UserError` tells all that do not fit.

    Those that were `typed` are read, and with `every` all the others, too, but groups that a dataset's file brings for
    another command. What was `stored` may have keys of another release, and no stranger's class is looked up for it. A
    method's helpers are resolved and gone.
    """
    tree = plain(cfg)
    keys, found = (
        Keys(COMMANDS[name], resolved_where_known(cfg), None if every else typed, strangers=not stored),
        OmegaConf.create(tree),
    )
    faults, brought = Gathered(), BROUGHT.get(name, ())
    faults.add(keys.faults)
    for key, value in leaves(tree):
        passes = is_within(key, brought) or (stored and key not in keys.hints)
        if is_within(key, RECIPES) or (key not in typed and (passes or not every)):
            continue
        with faults.going_on():
            OmegaConf.update(found, key, keys.read(key, value), merge=False)
            if "${" in str(value):
                _read_resolved(keys, found, key, value)
    faults.tell()
    found = without_recipes(found)
    OmegaConf.set_struct(found, True)
    return found


def _read_resolved(keys: Keys, cfg: DictConfig, key: str, value: str) -> None:
    try:
        resolved = OmegaConf.select(cfg, key)
    except InterpolationToMissingValueError:
        return  # what it refers to is asked for by its own name
    except OmegaConfBaseException as error:
        raise UserError(f"{key}={value} cannot be resolved: {' '.join(str(error).split())}") from error
    if resolved is not None and not OmegaConf.is_config(resolved):
        keys.read(key, resolved)
