"""What only some need is imported when it is needed, and its absence is a sentence."""

from importlib import import_module
from typing import Any

from mpanet_pl.errors import UserError


def need(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f'{module.partition(".")[0]} is not installed: pip install "mpanet_pl[{extra}]"') from error
