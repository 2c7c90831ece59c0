"""SYSU-MM01's permutation file, `rand_perm_cam.mat`, which its authors hand out with their evaluation code.

Its one variable `rand_perm_cam` is a cell of 6 cameras, each a cell of identities, each a table of trials x images. The
table's entries are image numbers, counted from 1 in the order of the files.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from mpanet_pl.errors import UserError


class Permutations:
    """For every camera and identity, the order of its images in each trial."""

    def __init__(self, path: str | Path, trials: int) -> None:
        self.path = Path(path)
        self.trials = trials
        self._cells = self._read()
        self._digest = hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]

    def __str__(self) -> str:
        return f"{self.path.name} (sha256 {self._digest}…)"

    def first(self, rows: Sequence[int], camera: int, identity: int, trial: int, shots: int) -> list[int]:
        """The trial's first `shots` of these rows, which are the identity's images under the camera, in file order."""
        order = self._order(camera, identity)
        if order.shape[1] != len(rows):
            raise UserError(
                f"{self.path} does not fit this dataset: identity {identity} has {len(rows)} images under camera "
                f"{camera}, the file orders {order.shape[1]}"
            )
        numbers = order[trial]
        if sorted(numbers.tolist()) != list(range(1, len(rows) + 1)):
            raise UserError(
                f"{self.path} is damaged: trial {trial + 1} of camera {camera}, identity {identity} is no permutation "
                f"of 1 to {len(rows)}"
            )
        return [rows[number - 1] for number in numbers[:shots]]

    def images(self, camera: int, identity: int) -> int:
        """How many images of the identity under the camera the file orders."""
        return self._order(camera, identity).shape[1]

    def _order(self, camera: int, identity: int) -> np.ndarray:
        """(trials, images), image numbers from 1; no images where the table ends before the identity."""
        cells = self._cells[camera - 1].ravel()
        if identity > len(cells):
            return np.empty((self.trials, 0), dtype=np.int64)
        order = cells[identity - 1]
        if order.ndim != 2 or order.dtype.kind not in "ui" or len(order) < self.trials:
            raise UserError(
                f"{self.path} has no {self.trials} trials for identity {identity} under camera {camera}: "
                f"found a table of shape {order.shape}"
            )
        return order

    def _read(self) -> np.ndarray:
        if not self.path.is_file():
            raise UserError(
                f"There is no permutation file {self.path}; it is `rand_perm_cam.mat` of SYSU-MM01's evaluation code "
                "(leave it out to draw the galleries from seeds, which every result then says)"
            )
        try:
            cells = loadmat(self.path, appendmat=False)["rand_perm_cam"].ravel()
        except Exception as fault:  # a damaged file fails in the parser in a dozen ways
            raise UserError(f"{self.path} is not SYSU-MM01's rand_perm_cam.mat, or is damaged: {fault}") from fault
        if len(cells) != 6 or any(not isinstance(cell, np.ndarray) or cell.dtype.kind != "O" for cell in cells):
            raise UserError(
                f"{self.path} is not SYSU-MM01's rand_perm_cam.mat: it should hold 6 cells, one for each camera"
            )
        return cells
