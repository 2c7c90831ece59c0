"""SYSU-MM01's official layout: a cell `feature` a camera, whose entry `id` has image i in row i."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from mpanet_pl.data.faults import Faults
from mpanet_pl.data.permutations import Permutations
from mpanet_pl.errors import UserError
from mpanet_pl.features.columns import Table

PERMUTATIONS = ("data_split/rand_perm_cam.mat", "rand_perm_cam.mat")
TEST_PEOPLE = ("data_split/test_id.mat", "test_id.mat")
OF_A_CAMERA = re.compile(r".*_cam([1-6])\.mat")


def read_mat(place: Path, people: Collection[int] | None, permutations: str | Path | None, faults: Faults) -> Table:
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
    order = permutations or beside(place, PERMUTATIONS)
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
    file = beside(place, TEST_PEOPLE)
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


def beside(place: Path, names: Iterable[str]) -> Path | None:
    return next((place / name for name in names if (place / name).is_file()), None)
