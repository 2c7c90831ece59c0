"""What a value may be: a type with its range, said once, in the signature that uses the value.

    @checked
    class Blur:
        def __init__(self, *, chance: Share = 0.5, radius: Count = 3) -> None: ...

The decorator makes the constructor check its arguments. A command line reads the same annotations and says the same
sentence with the whole key in front.
"""

import inspect
import math
import os
from collections.abc import Callable, Mapping
from functools import cache, wraps
from pkgutil import resolve_name
from typing import Annotated, Any, Literal, TypeVar, Union, get_type_hints

from mpanet_pl.errors import UserErrors
from mpanet_pl.system.hints import Part as Part
from mpanet_pl.system.hints import Range, Unfit, read

Made = TypeVar("Made", bound=Callable[..., Any])


def number(least: float = -math.inf, most: float = math.inf, *, above: float | None = None) -> Range:
    """A finite number of that range."""
    bounds = [f"more than {above}"] if above is not None else [f"at least {least}"] if math.isfinite(least) else []
    bounds += [f"at most {most}"] if math.isfinite(most) else []
    words = f"between {least} and {most}" if len(bounds) == 2 and above is None else " and ".join(bounds or ["finite"])
    lower = least if above is None else math.nextafter(above, math.inf)
    return Range(words, lambda value: math.isfinite(value) and lower <= value <= most)


def _has_a_home(path: str) -> bool:
    return not path.startswith("~") or os.path.expanduser(path) != path


Count = Annotated[int, number(1)]
Whole = Annotated[int, number(0)]
Weight = Annotated[float, number(0)]
Positive = Annotated[float, number(above=0)]
Finite = Annotated[float, number()]
Share = Annotated[float, number(0, 1)]
Probability = Annotated[float, Range("between 0 and 1", lambda value: 0 <= value <= 1, "a probability")]
Seed = Annotated[int, number(0, 2**32 - 1)]
Workers = Annotated[int, number(0, 512)]
Trials = Annotated[int, number(1, 1000)]
Place = Annotated[
    str,
    Range("a path", lambda value: value not in ("", "yes", "no", "on", "off"), "a path"),
    Range("a path whose ~ is somebody's home on this machine", _has_a_home),
]


def parameters(maker: Any) -> tuple[dict[str, Any], bool]:
    """The keywords that a class or function takes, with their hints, and whether it takes any other, too.

    Hints by name are given back as they are. Where a constructor hands `**keywords` on, those of its bases follow.
    """
    if isinstance(maker, Mapping):
        return dict(maker), False
    found: dict[str, Any] = {}
    makers = [maker]
    if inspect.isclass(maker):
        makers = [base.__init__ for base in maker.__mro__[:-1] if "__init__" in vars(base)] or [maker.__new__]  # type: ignore[misc]
    handed_on = False
    for function in makers:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # written in C
            return found, True
        hints = hints_of(function)
        for place, word in enumerate(signature.parameters.values()):
            named = word.kind in (word.POSITIONAL_OR_KEYWORD, word.KEYWORD_ONLY)
            if named and not (place == 0 and function is not maker) and not (handed_on and word.name in found):
                hint = hints.get(word.name, Any)
                found.setdefault(word.name, hint if word.default is not None or hint is Any else Union[hint, None])  # noqa: UP007
        if not any(word.kind is word.VAR_KEYWORD for word in signature.parameters.values()):
            return found, handed_on
        handed_on = True
    return found, True


def keys_of(part: Part | None, settings: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The hints of what a group of keys may hold beside `_target_`, and whether it takes any other key, too."""
    try:
        usual = resolve_name(part.usual) if part and isinstance(part.usual, str) else part and part.usual
    except ImportError:  # what it needs is not installed, which its command says better
        usual = None
    if part is None or usual is None:
        return dict(part.besides) if part else {}, "_target_" not in settings
    if isinstance(usual, Part):
        return keys_of(usual, settings)
    if not part.by:
        hints, open_ = parameters(usual)
        return hints | dict(part.besides), open_
    chosen = settings.get(part.by) or part.default
    its = parameters(usual[chosen])[0] if chosen in usual else {}
    nothing = Annotated[None, Range("", lambda _: True, f"null ({chosen} has no such key)")]
    others = dict.fromkeys((word for maker in usual.values() for word in parameters(maker)[0]), nothing)
    its |= {word: hint for word, hint in part.besides.items() if word in its or word not in others}
    its[part.by] = Literal[tuple(usual)]
    return others | {word: Union[hint, None] for word, hint in its.items()}, False  # noqa: UP007


@cache
def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """A function's annotations, evaluated; those that name what is imported for type checkers alone are left out."""
    try:
        return get_type_hints(function, include_extras=True)
    except Exception:  # whatever a stranger's annotation comes to
        known = getattr(inspect.unwrap(function), "__globals__", {})
        found = {}
        for name, hint in getattr(function, "__annotations__", {}).items():
            try:
                found[name] = eval(hint, known) if isinstance(hint, str) else hint
            except Exception:
                found[name] = Any
        return found


def checked(made: Made) -> Made:
    """Let a class or a function check its arguments by its own annotations, before it does anything else."""
    if not inspect.isclass(made):
        return _checking(made)  # type: ignore[return-value]
    made.__init__ = _checking(made.__init__)  # type: ignore[method-assign]
    return made


def _checking(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @wraps(function)
    def checks(*arguments: Any, **keywords: Any) -> Any:
        try:
            bound = signature.bind(*arguments, **keywords)
        except TypeError:
            return function(*arguments, **keywords)  # which says what is wrong with its own name
        read_all(hints_of(function), bound.arguments)
        return function(*bound.args, **bound.kwargs)

    return checks


def read_all(hints: Mapping[str, Any], values: dict[str, Any], prefix: str = "") -> None:
    """Read values in place; a `UserError` tells all that do not fit."""
    faults = []
    for name in [name for name in values if name in hints]:
        try:
            values[name] = read(hints[name], values[name])
        except Unfit as unfit:
            faults.append(f"{prefix}{name} must be {unfit}, got {values[name]!r}.")
    if faults:
        raise UserErrors(faults)
