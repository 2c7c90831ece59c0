"""Plain values, as YAML and a command line have them, read as the type hints of those who use them say.

>>> read(int, "3"), read(float | None, None), read(list[int], [1, 2])
(3, None, [1, 2])
"""

import os
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

PLAIN = (bool, int, float, str, list, tuple, Mapping)  # what YAML holds; any other object is its own class's to judge
WORDS = {bool: ["true", "false"], int: ["a whole number"], float: ["a number"], str: ["a word"], Path: ["a path"]}
TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
LISTS = (list, tuple, set, frozenset, Sequence, Iterable)
GROUPS = (dict, Mapping)
UNIONS = (Union, types.UnionType)
NOTHING = (None, types.NoneType)


@dataclass(frozen=True)
class Range:
    """Values for which `fits` holds; `noun` says what the value is where its type is wrong already."""

    words: str | Callable[[Any], str]
    fits: Callable[[Any], bool]
    noun: str | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """A group of keys: those of the class that its `_target_` names, else of `usual`.

    `usual` is a class, a function, hints by name, or the dotted name of one of them. With `by`, it is a mapping to
    them, from which the group's key `by` chooses (`default` unless given). `besides` are hints of further keys.
    """

    usual: Any = None
    by: str | None = None
    default: str = ""
    besides: Mapping[str, Any] = field(default_factory=dict)


class Unfit(ValueError):
    """What a value should have been, in words; `close` where its type was right."""

    def __init__(self, words: str, close: bool = False) -> None:
        super().__init__(words)
        self.close = close


def read(hint: Any, value: Any) -> Any:
    """A plain value as its hint has it ("3" is 3 where a number is wanted); `Unfit` where it is none of those."""
    origin, args = get_origin(hint) or hint, get_args(hint)
    if not _is_known(hint) or not (value is None or isinstance(value, PLAIN)):
        return value  # a class of somebody's: its constructor knows what it takes
    if origin is Annotated:
        return _read_annotated(args[0], args[1:], value)
    if origin in UNIONS:
        return _read_union(args, value)
    if origin in NOTHING and value is None:
        return None
    if origin is Literal and value in args and type(value) in map(type, args):
        return value
    if origin in LISTS and isinstance(value, list | tuple):
        return _read_list(hint, value)
    if origin in GROUPS and isinstance(value, Mapping):
        return value
    if origin in SCALARS and value is not None:
        return SCALARS[origin](value)
    raise Unfit(words(hint))


def _read_annotated(hint: Any, marks: Iterable[Any], value: Any) -> Any:
    ranges = [mark for mark in marks if isinstance(mark, Range)]
    try:
        found = read(hint, value)
    except Unfit as unfit:
        noun = next((mark.noun for mark in ranges if mark.noun), None)
        raise Unfit(noun or str(unfit), unfit.close) from None
    for mark in ranges:
        if found is not None and not mark.fits(found):
            raise Unfit(mark.words if isinstance(mark.words, str) else mark.words(found), close=True)
    return found


def _read_union(hints: Sequence[Any], value: Any) -> Any:
    if value is None and types.NoneType in hints:
        return None
    typable = [hint for hint in hints if _is_known(hint)] or hints  # an object cannot be typed
    faults = []
    for hint in sorted(typable, key=lambda hint: not _is_exactly(hint, value)):
        try:
            return read(hint, value)
        except Unfit as unfit:
            faults.append(unfit)
    raise next((fault for fault in faults if fault.close), Unfit(words(Union[tuple(hints)])))  # noqa: UP007


def _read_list(hint: Any, values: Sequence[Any]) -> Sequence[Any]:
    args, kind = get_args(hint), tuple if isinstance(values, tuple) or get_origin(hint) is tuple else list
    if get_origin(hint) is tuple and args and args[-1] is not ...:
        if len(values) != len(args):
            raise Unfit(f"a list of {len(args)}", close=True)
        return kind(read(one, value) for one, value in zip(args, values, strict=True))
    try:
        return kind(read(args[0] if args else Any, value) for value in values)
    except Unfit as unfit:
        raise Unfit(f"a list, each value {unfit}" if unfit.close else words(hint), unfit.close) from None


def _read_bool(value: Any) -> bool:
    found = TRUTHS.get(value.lower()) if isinstance(value, str) else value
    if isinstance(found, bool):
        return found
    raise Unfit(words(bool))


def _read_number(kind: type[int] | type[float], value: Any) -> float:
    """A whole number stays one where any number may stand."""
    try:
        if isinstance(value, (int, str, kind)) and not isinstance(value, bool):
            return value if isinstance(value, int) else kind(value)
    except ValueError:
        pass
    raise Unfit(words(kind))


def _read_str(value: Any) -> str:
    if isinstance(value, bool | int | float | str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    raise Unfit(words(str))


SCALARS: dict[Any, Callable[[Any], Any]] = {kind: partial(_read_number, kind) for kind in (int, float)}
SCALARS |= {bool: _read_bool, str: _read_str, Path: _read_str, os.PathLike: _read_str}


def members(hint: Any) -> tuple[Any, ...]:
    """Of a union, what it unites; else the hint alone."""
    return get_args(hint) if get_origin(hint) in UNIONS else (hint,)


def part_of(hint: Any) -> Part | None:
    marks = [mark for one in members(hint) if get_origin(one) is Annotated for mark in get_args(one)[1:]]
    return next((mark for mark in marks if isinstance(mark, Part)), None)


def value_of(hint: Any) -> Any:
    """What a mapping's values are; anything where it does not say."""
    found = [get_args(one)[1] for one in members(hint) if get_origin(one) in GROUPS and get_args(one)]
    return found[0] if found else Any


def takes_keys(hint: Any) -> bool:
    """Whether a group of keys may stand there: not where all that is taken are plain values."""
    bare = [get_args(one)[0] if get_origin(one) is Annotated else one for one in members(hint)]
    kinds = [get_origin(one) or one for union in bare for one in members(union)]
    return part_of(hint) is not None or any(
        kind in GROUPS or not (kind in SCALARS or kind in LISTS or kind in (*NOTHING, Literal)) for kind in kinds
    )


def _is_known(hint: Any) -> bool:
    kind = get_origin(hint) or hint
    return kind in (*SCALARS, *LISTS, *GROUPS, *UNIONS, *NOTHING, Literal, Annotated)


def _is_exactly(hint: Any, value: Any) -> bool:
    base = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return type(value) is base or (get_origin(base) is Literal and value in get_args(base))


def words(hint: Any) -> str:
    """What a value has to be.

    >>> words(bool | Path), words(Literal["visible", "infrared"] | None), words(list[int])
    ('true, false or a path', 'visible or infrared', 'a list such as [1,2]')
    """
    parts = list(dict.fromkeys(_words(hint)))
    if "a number" in parts and "a whole number" in parts:
        parts.remove("a whole number")
    said = [one for one in members(hint) if one not in NOTHING]
    if len(parts) > 2 and len(said) == 1 and get_origin(said[0]) is Literal:
        return f"one of {', '.join(parts)}"
    return f"{', '.join(parts[:-1])} or {parts[-1]}" if len(parts) > 1 else "".join(parts or ["null"])


def _words(hint: Any) -> Iterator[str]:
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin is Annotated:
        noun = next((mark.noun for mark in args[1:] if isinstance(mark, Range) and mark.noun), None)
        yield from [noun] if noun else _words(args[0])
    elif origin in UNIONS:
        for one in args:
            yield from _words(one)
    elif origin is Literal:
        yield from map(str, args)
    elif origin in LISTS:
        yield "a list such as [1,2]" if args and "number" in words(args[0]) else "a list such as [a,b]"
    elif origin in GROUPS:
        yield "a group of keys"
    elif origin not in NOTHING:
        yield from WORDS.get(origin, ["a path"] if origin is os.PathLike else [])
