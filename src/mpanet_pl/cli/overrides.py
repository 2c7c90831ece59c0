"""KEY=VALUE as it was typed: parsed by Hydra's grammar, or a sentence why not."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException

from mpanet_pl.cli.conforming import COMMANDS
from mpanet_pl.errors import UserError
from mpanet_pl.system.keys import Keys
from mpanet_pl.system.shell import quoted


def parse(typed: Sequence[str]) -> list[Override]:
    for text in typed:
        if not re.match(r"(\+*[\w./@:-]+=|~)", text):
            raise UserError(f"'{text}' is not KEY=VALUE.")
    try:
        return OverridesParser.create().parse_overrides(list(typed))
    except HydraException as error:
        raise UserError(f"Not understood, {one_line(error)}. An argument is KEY=VALUE.") from error


def readable(name: str, argument: str, *, several: bool = False) -> str:
    """KEY=VALUE with ~/ for a home, and its value quoted where the grammar stumbles over it or reads a text, such as a
    folder's name, as a number. Of `several` runs a comma may part the values, which nobody else can quote.

    >>> print(readable("train", "data_dir=/josé/x=1"), readable("train", "trial=1,2"), readable("train", "resume=3"))
    data_dir="/josé/x=1" trial=1,2 resume="3"
    >>> print(readable("evaluate", "notes=a, b"), readable("evaluate", "measure={_target_: a.B, digits: 3}"))
    notes="a, b" measure={_target_: a.B, digits: 3}
    """
    if not (parts := re.fullmatch(r"([\w./@:+]+=)(['\"]?)(~(?=/))?(.*)", argument, re.DOTALL)):
        return argument
    key, quote, home, rest = parts.groups()
    value = quote + (str(Path.home()) if home else "") + rest
    try:
        parsed = OverridesParser.create().parse_override(key + value)
        a_sentence = parsed.is_sweep_override() and ", " in value and not several  # lists of runs have no spaces
        if as_it_stands := a_sentence or isinstance(parsed.value(), int | float):
            as_it_stands = Keys(COMMANDS[name], {}).is_text(key.strip("+="))
    except HydraException:
        as_it_stands = not (several and "," in value)
    return key + (quoted(value) if as_it_stands else value)


def runs(override: Override, choices: Callable[[str], list[str]] = lambda group: []) -> list[Override]:
    """One override for each value that a sweep lists; of an interval, which its sweeper draws from, its two ends.

    `choices` are those of a group, from which a glob() chooses.
    """
    if not override.is_sweep_override():
        return [override]
    key, value = override.get_key_element(), override.value()
    if isinstance(value, IntervalSweep):
        return parse([f"{key}={end}" for end in (value.start, value.end)])
    if isinstance(value, Glob):
        return parse([f"{key}={choice}" for choice in value.filter(choices(override.key_or_group))])
    return parse(
        [f"{key}={value}" for value in override.sweep_string_iterator()] if override.is_discrete_sweep() else []
    )


def form_faults(override: Override, *, several: bool, count: int) -> Iterator[str]:
    """Why an override cannot be there at all; `count` is how many runs it asks for."""
    line = override.input_line or ""
    if override.is_delete():
        yield f"'{line}' would take away what the command needs: give it another value."
    elif override.is_sweep_override() and not several:
        comma = re.fullmatch(r"(.+=-?\d+),(\d+(?:e-?\d+)?)", line)
        decimal = f" (A decimal number has a point: {comma[1]}.{comma[2]}.)" if comma else ""
        yield f"{line} asks for several runs: add -m. (A list is written key=[a,b].){decimal}"
    elif override.is_discrete_sweep() and not count:
        yield f"{line} is an empty list: there would be no run."


def one_line(error: Exception) -> str:
    """What Hydra said, without its pointer to the grammar."""
    return "; ".join(line for line in str(error).strip().splitlines() if line and not line.startswith("See https"))
