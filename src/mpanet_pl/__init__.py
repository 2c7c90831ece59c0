"""MPANet for visible-infrared person re-identification."""

from mpanet_pl.data import ReIDDataModule
from mpanet_pl.module import MPANetModule
from mpanet_pl.network import MPANet

__version__ = "0.1.0"
__all__ = ["MPANet", "MPANetModule", "ReIDDataModule", "__version__"]
