"""Anyone's embeddings, as they lie on disk: what another method wrote is scored without its network or its images.

    DIR/*_cam1.mat … *_cam6.mat    SYSU-MM01's official layout: a cell `feature`, whose entry `id` has image i in row i
    FILE.npz                       embeddings (N, D), paths, identities, cameras, and infrared where cameras do not tell
    FILE.npy beside FILE.csv       (N, D), and a row `path,identity,camera,modality` for each
    FILE.parquet, or DIR of them   columns path, identity, camera, modality, and embedding: numbers, or `embed`'s bytes

Where it is known when images were taken, in seconds, a column `time` (of an .npz `times`) says it.
All that is wrong with them is told at once.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.data.faults import Faults, listed
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.permutations import Permutations

PERMUTATIONS = ("data_split/rand_perm_cam.mat", "rand_perm_cam.mat")
TEST_PEOPLE = ("data_split/test_id.mat", "test_id.mat")
OF_A_CAMERA = re.compile(r".*_cam([1-6])\.mat")
MODALITIES = {"visible": False, "infrared": True, "thermal": True}
RECORD = b"mpanet_pl"  # of `embed`, in each Parquet file's metadata


class Table(NamedTuple):
    """Embeddings and what is said of each, as it was found."""

    embeddings: np.ndarray  # (N, D)
    paths: Sequence[str]
    identities: Sequence[Any]
    cameras: Sequence[Any]
    infrared: Sequence[bool] | None  # None: the cameras tell
    times: Sequence[Any] | None = None  # seconds, as numbers or words; None or empty where not known


def read_features(
    path: str | Path,
    *,
    infrared_cameras: Collection[int] = (),
    people: Collection[int] | None = None,
    permutations: str | Path | None = None,
) -> tuple[Tensor, Catalogue]:
    """Embeddings (N, D) and whom they show.

    infrared_cameras: which are, where a file does not say it of each image.
    people: only these; the official layout needs it where no `test_id.mat` lies there.
    permutations: the official layout's image counts are held against this file's, or that which lies there.
    """
    place = Path(path).expanduser()
    faults = Faults()
    table = _READERS[_form(place)](place, people, permutations, faults)
    embeddings = _checked(table, faults)
    if faults:
        raise UserError(f"The features in {place} cannot be used:\n{faults}")
    infrared = np.asarray(table.infrared if table.infrared is not None else _of_cameras(table, infrared_cameras, place))
    catalogue = Catalogue(
        tuple(map(str, table.paths)),
        torch.from_numpy(_numbers(table.identities)),
        torch.from_numpy(_numbers(table.cameras)),
        torch.from_numpy(infrared.astype(bool)),
        None if table.times is None else torch.tensor([_seconds(time) for time in table.times], dtype=torch.float64),
    )
    if people is None:
        return embeddings, catalogue
    chosen = torch.isin(catalogue.identities, torch.tensor(sorted(people)))
    return embeddings[chosen], catalogue[chosen]


def permutations_beside(path: str | Path) -> Path | None:
    """The official permutation file, where it lies in the folder of features."""
    return _beside(Path(path).expanduser(), PERMUTATIONS)


def says_who_is_tested(path: str | Path) -> bool:
    return _beside(Path(path).expanduser(), TEST_PEOPLE) is not None


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


def _checked(table: Table, faults: Faults) -> Tensor:
    """The embeddings as a tensor; what is wrong with the table goes into `faults`."""
    embeddings, paths = table.embeddings, table.paths
    if embeddings.ndim != 2 or embeddings.dtype.kind != "f" or 0 in embeddings.shape:
        if not faults:
            faults.add("embeddings that are no numbers (N, D)", [f"{embeddings.dtype} {embeddings.shape}"])
        return torch.empty(0)
    for name, column in table._asdict().items():
        if column is not None and len(column) != len(embeddings):
            faults.add("columns of another length", [f"{len(column)} {name} for {len(embeddings)} embeddings"])
    faults.add("images that are there twice", (path for path, count in Counter(paths).items() if count > 1))
    faults.add("times that are no seconds", _without_seconds(table))
    finite = np.isfinite(embeddings).all(axis=1)
    faults.add("not finite", (paths[row] for row in np.flatnonzero(~finite).tolist() if row < len(paths)))
    return torch.from_numpy(np.ascontiguousarray(embeddings.astype(embeddings.dtype.newbyteorder("="))))


def _without_seconds(table: Table) -> Iterator[str]:
    for path, time in zip(table.paths, table.times or (), strict=False):
        try:
            _seconds(time)
        except (TypeError, ValueError):
            yield f"{path}: {time}"


def _seconds(time: Any) -> float:
    return nan if time in (None, "") else float(time)


def _of_cameras(table: Table, infrared_cameras: Collection[int], place: Path) -> np.ndarray:
    if not infrared_cameras:
        raise UserError(f"{place} does not say which images are infrared: it needs a column modality, or infrared.")
    return np.isin(_numbers(table.cameras), list(infrared_cameras))


def _numbers(names: Sequence[Any]) -> np.ndarray:
    """(N,) int64: whole numbers as they are; names counted from 1, in their order; 0 for nothing."""
    column = np.asarray(names)
    if column.dtype.kind in "iu":
        return column.astype(np.int64)
    texts = ["" if name is None else str(name).strip() for name in column.tolist()]
    known = sorted(set(texts) - {""})
    numbered = all(map(str.isdecimal, known))
    number = {text: int(text) if numbered else place for place, text in enumerate(known, 1)}
    return np.array([number.get(text, 0) for text in texts], dtype=np.int64)


def _beside(place: Path, names: Iterable[str]) -> Path | None:
    return next((place / name for name in names if (place / name).is_file()), None)


# SYSU-MM01's official layout


def _read_mat(place: Path, people: Collection[int] | None, permutations: str | Path | None, faults: Faults) -> Table:
    files: dict[int, list[Path]] = {camera: [] for camera in range(1, 7)}
    for file in sorted(place.glob("*.mat")):
        if found := OF_A_CAMERA.fullmatch(file.name):
            files[int(found[1])].append(file)
    faults.add("missing files", (f"*_cam{camera}.mat" for camera, found in files.items() if not found))
    doubled = [", ".join(file.name for file in found) for found in files.values() if len(found) > 1]
    faults.add("more than one file of a camera", doubled)
    people = sorted(_test_people(place) if people is None else people)
    cells = {
        (camera, person): rows
        for camera, found in files.items()
        for file in found[:1]
        for person, rows in _rows_of_people(file, people, faults)
    }
    absent = set(people) - {person for _, person in cells}
    faults.add("test people without any feature", sorted(absent))
    order = permutations or _beside(place, PERMUTATIONS)
    if order:
        faults.add("other image counts than in the permutations", _other_counts(cells, files, people, order))
    widths = Counter(rows.shape[1] for rows in cells.values())
    if len(widths) > 1:
        usual = widths.most_common(1)[0][0]
        odd = {where: rows for where, rows in cells.items() if rows.shape[1] != usual}
        faults.add(f"not {usual} wide", (f"camera {c} person {p}: {rows.shape[1]}" for (c, p), rows in odd.items()))
    whose = [(camera, person, row) for (camera, person), rows in cells.items() for row in range(len(rows))]
    return Table(
        np.empty((0, 0)) if faults or not cells else np.concatenate(list(cells.values())),
        [f"cam{camera}/{person:04d}/{row + 1:04d}.jpg" for camera, person, row in whose],
        [person for _, person, _ in whose],
        [camera for camera, _, _ in whose],
        None,
    )


def _test_people(place: Path) -> Collection[int]:
    file = _beside(place, TEST_PEOPLE)
    if file is None:
        raise UserError(
            f"{place} does not say who is tested: there is no {' or '.join(TEST_PEOPLE)}. Say it by data_dir=, the "
            "dataset's folder with exp/test_id.txt."
        )
    people: list[int] = _variable(file, "id").ravel().tolist()
    return people


def _rows_of_people(file: Path, people: Sequence[int], faults: Faults) -> Iterator[tuple[int, np.ndarray]]:
    """(person, features (n, D)) of each person that the camera saw."""
    cells = _variable(file, "feature").ravel()
    if cells.dtype.kind != "O":
        faults.add("not a cell of one entry a person", [file.name])
        return
    for person in people:
        if person > len(cells) or not (rows := cells[person - 1]).size:
            continue
        if rows.ndim != 2 or rows.dtype.kind != "f":
            faults.add("no table of numbers", [f"{file.name} person {person}: {rows.dtype} {rows.shape}"])
            continue
        yield person, rows


def _other_counts(
    cells: Mapping[tuple[int, int], np.ndarray],
    files: Mapping[int, Sequence[Path]],
    people: Sequence[int],
    permutations: str | Path,
) -> Iterator[str]:
    order = Permutations(permutations, trials=1)
    for camera, found in files.items():
        for person in people if found else ():
            had, expected = len(cells.get((camera, person), ())), order.images(camera, person)
            if had != expected:
                yield f"camera {camera} person {person}: {had}, not {expected}"


def _variable(file: Path, name: str) -> np.ndarray:
    try:
        found: np.ndarray = loadmat(file, appendmat=False)[name]
        return found
    except NotImplementedError as error:  # what scipy says of HDF5, which it does not read
        raise UserError(f"{file} is a MATLAB 7.3 file: save it with -v7.") from error
    except Exception as error:  # a damaged file fails in the parser in a dozen ways
        raise UserError(f"{file} holds no MATLAB variable '{name}', or is damaged: {error}") from error


# tables


def _read_npz(place: Path, people: Collection[int] | None, permutations: str | Path | None, faults: Faults) -> Table:
    needed = ("embeddings", "paths", "identities", "cameras")
    try:
        with np.load(place, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in (*needed, "infrared", "times") if name in stored.files}
    except Exception as error:  # as above
        raise UserError(f"{place} cannot be read as an .npz file: {error}") from error
    if missing := [name for name in needed if name not in columns]:
        raise UserError(f"{place} has no {', '.join(missing)}: it needs {', '.join(needed)}, and infrared.")
    for name in ("identities", "cameras"):
        if columns[name].dtype.kind not in "iuUS":
            faults.add("no whole numbers or names", [f"{name}: {columns[name].dtype}"])
    embeddings, paths, identities, cameras = (columns[name] for name in needed)
    times = columns["times"].tolist() if "times" in columns else None
    return Table(embeddings, paths.tolist(), identities, cameras, columns.get("infrared"), times)


def _read_npy(place: Path, people: Collection[int] | None, permutations: str | Path | None, faults: Faults) -> Table:
    arrays = sorted(place.glob("*.npy")) if place.is_dir() else [place]
    if len(arrays) > 1:
        raise UserError(f"{place} holds several .npy files, {listed(file.name for file in arrays)}: name one.")
    (file,) = arrays
    words = file.with_suffix(".csv")
    if not words.is_file():
        raise UserError(f"{file} needs {words.name} beside it, with the columns path, identity, camera, modality.")
    try:
        embeddings = np.load(file, allow_pickle=False)
        with words.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file} and {words.name} cannot be read: {error}") from error
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else {}) if name}
    return _of_columns(embeddings, columns, words, faults)


def _read_parquet(
    place: Path, people: Collection[int] | None, permutations: str | Path | None, faults: Faults
) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError('Parquet needs pyarrow: pip install "mpanet_pl[gallery]"') from error
    parts = []
    for file in sorted(place.glob("*.parquet")) if place.is_dir() else [place]:
        try:
            parts.append(pq.read_table(file))
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{file} cannot be read as Parquet: {str(error).splitlines()[0]}") from error
    if any(part.schema != parts[0].schema for part in parts):
        raise UserError(f"{place} holds Parquet files of several kinds: their columns or records differ.")
    table = pa.concat_tables(parts)
    if "embedding" not in table.column_names:
        raise UserError(f"{place} has no column embedding; it has {', '.join(table.column_names)}.")
    try:
        embeddings = _vectors(table["embedding"].combine_chunks(), table.schema.metadata or {})
    except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UserError(f"The column embedding of {place} cannot be read: {error}") from error
    columns = {name: table[name].to_pylist() for name in table.column_names if name != "embedding"}
    return _of_columns(embeddings, columns, place, faults)


def _vectors(column: Any, metadata: Mapping[bytes, bytes]) -> np.ndarray:
    """(N, D) of lists of numbers, or of raw bytes whose type the record says."""
    import pyarrow as pa

    if column.null_count:
        raise ValueError(f"{column.null_count} are null")
    if pa.types.is_fixed_size_binary(column.type):
        kind = np.dtype(json.loads(metadata[RECORD])["dtype"]).newbyteorder("<")
        return np.frombuffer(b"".join(column.to_pylist()), kind).reshape(len(column), -1)
    widths = set(column.value_lengths().to_pylist()) if not pa.types.is_fixed_size_list(column.type) else set()
    if len(widths) > 1:
        raise ValueError(f"the numbers of a row are {' or '.join(map(str, sorted(widths)))}")
    values: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), -1)


def _of_columns(embeddings: np.ndarray, columns: Mapping[str, Sequence[Any]], place: Path, faults: Faults) -> Table:
    needed = ("path", "identity", "camera")
    if missing := [name for name in needed if name not in columns]:
        raise UserError(f"{place} has no column {', '.join(missing)}; it has {', '.join(columns) or 'none'}.")
    faults.add("images of nobody", _rows_without(columns["identity"], columns["path"]))
    modalities = columns.get("modality")
    if modalities is not None and all(modalities):
        unknown = sorted(set(map(str, modalities)) - MODALITIES.keys())
        faults.add("modalities that are none of visible, infrared, thermal", unknown)
        infrared: Sequence[bool] | None = [MODALITIES.get(str(modality), False) for modality in modalities]
    else:
        infrared = None
    return Table(embeddings, columns["path"], columns["identity"], columns["camera"], infrared, columns.get("time"))


def _rows_without(column: Sequence[Any], paths: Sequence[str]) -> Iterator[str]:
    return (path for value, path in zip(column, paths, strict=False) if value in (None, ""))


Reader = Callable[[Path, Collection[int] | None, str | Path | None, Faults], Table]
_READERS: Mapping[str, Reader] = {
    "mat": _read_mat,
    "npz": _read_npz,
    "npy": _read_npy,
    "parquet": _read_parquet,
}
