"""Features of another's making: what the dataset in question knows of them, and they do not say themselves."""

from pathlib import Path

from hydra.utils import get_class
from omegaconf import DictConfig
from torch import Tensor

from mpanet_pl.data import Catalogue
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.listing import read_identities
from mpanet_pl.errors import UserError
from mpanet_pl.features import permutations_beside, read_features, says_who_is_tested
from mpanet_pl.run.datasets import FROM_DATASET

TEST_PEOPLE = "exp/test_id.txt"  # of the dataset's folder


def external_features(cfg: DictConfig) -> tuple[Tensor, Catalogue]:
    """Embeddings (N, D) and their catalogue. Permutations that lie beside them become the protocol's."""
    path = Path(cfg.features)
    if cfg.dataset is None:
        raise UserError(f"{path} does not say of which dataset it is: add dataset=….")
    if cfg.flip:
        raise UserError(f"{path} holds embeddings: flip=true is for a checkpoint.")
    root = Path(cfg.data_dir)
    if cfg.protocol.get("permutations") == FROM_DATASET:
        found = permutations_beside(path) or permutations_beside(root / "exp")
        cfg.protocol.permutations = None if found is None else str(found)
    return read_features(
        path,
        infrared_cameras=getattr(get_class(cfg.data.dataset._target_), "infrared_cameras", ()),
        people=None if says_who_is_tested(path) else _test_people(root),
        permutations=cfg.protocol.get("permutations"),
    )


def _test_people(root: Path) -> set[int] | None:
    """Of the dataset's folder, where it lies there."""
    if not (root / TEST_PEOPLE).is_file():
        return None
    faults = Faults()
    people = read_identities(root, TEST_PEOPLE, faults)
    if faults:
        raise UserError(f"{root / TEST_PEOPLE} cannot be used:\n{faults}")
    return people
