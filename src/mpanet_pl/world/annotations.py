"""What a drawn dataset knows of its own images: where each nuance is, and which identities differ in one nuance alone.

Beside its images such a dataset keeps `nuances.npz` (who and where, per image) and `nuances.json` (names, siblings).
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError


@dataclass(frozen=True, eq=False)
class Annotations:
    """Of N images, row by row as in their catalogue, and K nuances."""

    nuances: tuple[str, ...]
    boxes: Tensor  # (N, K, 4) left, top, right, bottom in fractions of the image; NaN where the nuance is not visible
    siblings: Tensor  # (N,) int64, the group of identities alike in all but one nuance; -1: the identity has no sibling
    differs: Tensor  # (N,) int64, the nuance that tells the group's members apart; -1: the identity has no sibling
    differences: Tensor  # (N, 4) where the picture of a sibling who stood there would differ; NaN: nowhere
    facings: Tensor | None = None  # (N,) int64, places in FACINGS; None: drawn before they were kept

    def __getitem__(self, rows: Tensor) -> Annotations:
        """Of some of the images."""
        columns: dict[str, Any] = {name: one[rows] for name, one in vars(self).items() if isinstance(one, Tensor)}
        return replace(self, **columns)

    @classmethod
    def read(cls, root: Path, catalogue: Catalogue) -> Annotations | None:
        """The annotations of a catalogue's images; None where the folder has none, as with every real dataset."""
        archive, index = root / "nuances.npz", root / "nuances.json"
        if not archive.exists() and not index.exists():
            return None
        try:
            with archive.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                paths, people = stored["paths"].tolist(), stored["identities"].tolist()
                boxes, differences = stored["boxes"].astype(np.float32), stored["differences"].astype(np.float32)
                facings = stored["facings"].astype(np.int64) if "facings" in stored else None
            described = json.loads(index.read_text())
            nuances, identities = tuple(described["nuances"]), described["identities"]
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise _refusal(root, f"cannot be read ({error})") from None
        if boxes.shape != (len(paths), len(nuances), 4):
            expected = (len(paths), len(nuances), 4)
            raise _refusal(root, f"hold boxes of shape {boxes.shape} where {expected} was expected")
        if differences.shape != (len(paths), 4):
            raise _refusal(root, f"hold differences of shape {differences.shape} where {(len(paths), 4)} was expected")
        if facings is not None and facings.shape != (len(paths),):
            raise _refusal(root, f"hold facings of shape {facings.shape} where {(len(paths),)} was expected")
        rows = _rows(root, catalogue, paths)
        group, nuance = _sibling_columns(root, [people[row] for row in rows], nuances, identities)
        seen = None if facings is None else torch.from_numpy(facings[rows])
        return cls(nuances, torch.from_numpy(boxes[rows]), group, nuance, torch.from_numpy(differences[rows]), seen)


def _rows(root: Path, catalogue: Catalogue, paths: list[str]) -> list[int]:
    row_of = {path: row for row, path in enumerate(paths)}
    unknown = [path for path in catalogue.paths if path not in row_of]
    if unknown:
        raise _refusal(root, f"know nothing of {len(unknown)} of {len(catalogue)} images, first {unknown[0]}")
    return [row_of[path] for path in catalogue.paths]


def _sibling_columns(
    root: Path, people: list[int], nuances: tuple[str, ...], described: dict[str, dict]
) -> tuple[Tensor, Tensor]:
    """Of each image the number of its identity's sibling group and of the nuance that tells the group apart.

    `people` are the drawn dataset's own numbers: a layout such as RegDB's labels people anew in every trial.
    """
    identities, row_of = torch.tensor(people).unique(return_inverse=True)
    unknown = [identity for identity in identities.tolist() if str(identity) not in described]
    if unknown:
        raise _refusal(root, f"know nothing of {len(unknown)} of {len(identities)} identities, first {unknown[0]}")
    entries = [described[str(identity)] for identity in identities.tolist()]
    groups = sorted({str(entry["siblings"]) for entry in entries if entry["siblings"] is not None})
    number = {name: i for i, name in enumerate(groups)}
    group = [-1 if entry["siblings"] is None else number[str(entry["siblings"])] for entry in entries]
    nuance = [-1 if entry["differs"] is None else nuances.index(entry["differs"]) for entry in entries]
    return torch.tensor(group)[row_of], torch.tensor(nuance)[row_of]


def _refusal(root: Path, fault: str) -> UserError:
    return UserError(f"nuances.npz and nuances.json in {root} {fault}: draw the dataset again")
