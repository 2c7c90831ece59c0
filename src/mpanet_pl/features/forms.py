"""Anyone's embeddings on disk: what another method wrote is scored without its network or its images.

    DIR/*_cam1.mat … *_cam6.mat    SYSU-MM01's official layout: a cell `feature`, whose entry `id` has image i in row i
    FILE.npz                       embeddings (N, D), paths, identities, cameras, and infrared where cameras do not tell
    FILE.npy beside FILE.csv       (N, D), and a row `path,identity,camera,modality` for each
    FILE.parquet, or DIR of them   columns path, identity, camera, modality, and embedding: numbers, or `embed`'s bytes

Where it is known when images were taken, in seconds, a column `time` (of an .npz `times`) says it.
All faults of a file are reported at once.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.data.faults import Faults
from mpanet_pl.errors import UserError
from mpanet_pl.features.columns import Table, catalogue_of, checked
from mpanet_pl.features.mat import PERMUTATIONS, TEST_PEOPLE, beside, read_mat
from mpanet_pl.features.npy import read_npy
from mpanet_pl.features.npz import read_npz
from mpanet_pl.features.parquet import read_parquet


def read_features(
    path: str | Path,
    *,
    infrared_cameras: Collection[int] = (),
    people: Collection[int] | None = None,
    permutations: str | Path | None = None,
) -> tuple[Tensor, Catalogue]:
    """Embeddings (N, D) and their catalogue.

    infrared_cameras: which are, where a file does not say it of each image.
    people: only these; the official layout needs it where no `test_id.mat` lies there.
    permutations: the official layout's image counts are held against this file's, or that which lies there.
    """
    place = Path(path).expanduser()
    faults = Faults()
    form = _form(place)
    table = read_mat(place, people, permutations, faults) if form == "mat" else _READERS[form](place, faults)
    embeddings = checked(table, faults)
    if faults:
        raise UserError(f"The features in {place} cannot be used:\n{faults}")
    catalogue = catalogue_of(table, infrared_cameras, place)
    if people is None:
        return embeddings, catalogue
    chosen = torch.isin(catalogue.identities, torch.tensor(sorted(people)))
    return embeddings[chosen], catalogue[chosen]


def permutations_beside(path: str | Path) -> Path | None:
    """The official permutation file, where it lies in the folder of features."""
    return beside(Path(path).expanduser(), PERMUTATIONS)


def says_who_is_tested(path: str | Path) -> bool:
    return beside(Path(path).expanduser(), TEST_PEOPLE) is not None


def holds_features(path: str | Path) -> bool:
    try:
        return bool(_form(Path(path)))
    except UserError:
        return False


def _form(place: Path) -> str:
    if place.is_dir():
        for form, pattern in (("mat", "*_cam[1-6].mat"), ("parquet", "*.parquet"), ("npy", "*.npy")):
            if any(place.glob(pattern)):
                return form
    elif place.suffix in (".npz", ".npy", ".parquet") and place.is_file():
        return place.suffix[1:]
    elif not place.exists():
        raise UserError(f"{place} does not exist.")
    raise UserError(
        f"{place} holds no features: they are a folder of *_cam1.mat … *_cam6.mat, an .npz, a .npy beside its .csv, "
        "or .parquet."
    )


_READERS: Mapping[str, Callable[[Path, Faults], Table]] = {"npz": read_npz, "npy": read_npy, "parquet": read_parquet}
