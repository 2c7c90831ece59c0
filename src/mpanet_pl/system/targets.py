"""Classes by their dotted name: from an installed package, or from a file beside where the user stands."""

import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Mapping
from typing import Any

from mpanet_pl.errors import UserError

TARGET = "_target_"


def see_own_files() -> None:
    """Let names be looked up in the current folder, too; after the installed packages, which no file there hides."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def named(target: str, key: str) -> Callable[..., Any]:
    """What a dotted name stands for; `key` is where it was given, for the sentence that says what is wrong with it.

    >>> named("collections.OrderedDict", "model")
    <class 'collections.OrderedDict'>
    """
    see_own_files()
    try:
        found = pkgutil.resolve_name(str(target))
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"{key}: {target} cannot be found ({error}). It is the dotted name of a class in an installed package or "
            f"in a file in {os.getcwd()}."
        ) from error
    if not callable(found):
        raise UserError(f"{key}: {target} is a {type(found).__name__}, not a class.")
    return found


def build(settings: Mapping[str, Any], key: str, *arguments: Any) -> Any:
    """The object that `_target_` and its keywords describe."""
    keywords = dict(settings)
    maker = named(keywords.pop(TARGET), key)
    try:
        return maker(*arguments, **keywords)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key}: {settings[TARGET]} is refused: {error}") from error


def part(given: Any, key: str) -> Any:
    """A part of a larger one: built where it is given by `_target_`, otherwise as it is."""
    if not isinstance(given, Mapping):
        return given
    if TARGET not in given:
        raise UserError(f"{key} is a class by {TARGET}, got {dict(given)}.")
    return build(given, key)


def usual_or_own(usual: Callable[..., Any], settings: Mapping[str, Any], key: str, *arguments: Any) -> Any:
    """The usual class of its keywords; or one that `_target_` names, of those of the usual keywords that it takes."""
    if TARGET not in settings:
        return usual(*arguments, **settings)
    return build(fitting(settings, usual, key), key, *arguments)


def fitting(settings: Mapping[str, Any], usual: Callable[..., Any], key: str) -> dict[str, Any]:
    """Settings that name a class by `_target_`, without those of the usual class's keywords that it does not take."""
    own = named(settings[TARGET], key)
    try:
        taken = inspect.signature(own).parameters
    except ValueError:  # of what is built in
        return dict(settings)
    any_word = any(word.kind is word.VAR_KEYWORD for word in taken.values())
    left_over = set() if any_word else inspect.signature(usual).parameters.keys() - taken.keys()
    return {word: value for word, value in settings.items() if word not in left_over}
