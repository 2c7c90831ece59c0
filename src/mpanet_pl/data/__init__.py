"""From images on disk to batches."""

from mpanet_pl.data.augment import Augment as Augment
from mpanet_pl.data.augment import Augmentation as Augmentation
from mpanet_pl.data.cache import open_images as open_images
from mpanet_pl.data.catalogue import Batch as Batch
from mpanet_pl.data.catalogue import Catalogue as Catalogue
from mpanet_pl.data.catalogue import Dataset as Dataset
from mpanet_pl.data.catalogue import Splits as Splits
from mpanet_pl.data.datamodule import ReIDDataModule as ReIDDataModule
from mpanet_pl.data.faults import Faults as Faults
from mpanet_pl.data.folder import Folder as Folder
from mpanet_pl.data.joint import Joint as Joint
from mpanet_pl.data.layout import DatasetOnDisk as DatasetOnDisk
from mpanet_pl.data.layout import relabelled as relabelled
from mpanet_pl.data.llcm import LLCM as LLCM
from mpanet_pl.data.regdb import RegDB as RegDB
from mpanet_pl.data.sysu import SYSU as SYSU
