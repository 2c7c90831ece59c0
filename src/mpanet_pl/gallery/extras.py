"""What only some need is imported when it is needed, and its absence is a sentence."""

from importlib import import_module
from typing import Any

from mpanet_pl.errors import UserError


def check_engine(engine: str, uri: str | None) -> None:
    if (engine == "milvus") == (uri is None):
        raise UserError("Either engine=exact, or engine=milvus and its uri=FILE.db or uri=http://HOST:19530.")
    if engine == "milvus":
        need("pymilvus", "milvus")


def need(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f'{module.partition(".")[0]} is not installed: pip install "mpanet_pl[{extra}]"') from error
