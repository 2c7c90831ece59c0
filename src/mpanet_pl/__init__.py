"""MPANet for visible-infrared person re-identification."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpanet_pl.data import ReIDDataModule
    from mpanet_pl.gallery.embedder import load
    from mpanet_pl.module import MPANetModule
    from mpanet_pl.network import MPANet

__version__ = "0.3.0"
__all__ = ["MPANet", "MPANetModule", "ReIDDataModule", "__version__", "load"]

HOMES = {
    "MPANet": "network",
    "MPANetModule": "module",
    "ReIDDataModule": "data",
    "load": "gallery.embedder",
}  # loaded when first touched


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
