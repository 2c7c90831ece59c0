"""Protocols: which query meets which gallery, and what is left out.

A protocol turns a test catalogue into searches. Nothing in it depends on the catalogue's order: files are taken in the
order of their paths. Camera numbers are known here and to the datasets alone; everyone else reads `infrared`.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue, Dataset
from mpanet_pl.data.permutations import Permutations
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.published import mpanet
from mpanet_pl.interfaces import CMC, RetrievalProtocol, Search, Similarity
from mpanet_pl.system.ranges import Place, Trials, checked

SYSU_CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
SYSU_SHOTS = {"single": 1, "multi": 10}


def protocol_of(dataset: Dataset) -> RetrievalProtocol:
    """The protocol that the dataset is measured by: its attribute `protocol` names the class, by its full name."""
    name = getattr(dataset, "protocol", None)
    if not name:
        raise UserError(f"{type(dataset).__name__} does not name its protocol: give one, or set the class's `protocol`")
    module, _, cls = str(name).rpartition(".")
    try:
        found = getattr(import_module(module), cls)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{type(dataset).__name__} names the protocol {name}, which cannot be had: {error}") from error
    protocol: RetrievalProtocol = found.of(dataset)
    return protocol


def similarity_by(similarity: Similarity, normalise: bool | None = None) -> Similarity:
    """The similarity that is asked for; configurations of 0.2 say `normalise` instead.

    >>> similarity_by("product"), similarity_by("cosine", normalise=False)
    ('product', 'euclidean')
    """
    return similarity if normalise is None else "cosine" if normalise else "euclidean"


@checked
class SYSUProtocol(RetrievalProtocol):
    """SYSU-MM01: infrared queries, all-search and indoor-search, single-shot and multi-shot.

    `permutations` is the path of the official `rand_perm_cam.mat`. Without it the gallery is drawn as much published
    code does, by `random.seed(trial)` and a choice among each identity's files under each camera; multi-shot then takes
    a sample of up to ten. That is another draw than the official one, and every result says so.

    Cameras 2 and 3 stand at one place, so a query of camera 3 ignores every gallery image of camera 2. The MATLAB
    evaluator compares embeddings by `similarity="euclidean"`, most published code by cosine.
    """

    trials: int

    def __init__(
        self,
        permutations: Place | Path | None = None,
        trials: Trials = 10,
        *,
        similarity: Similarity = "cosine",
        normalise: bool | None = None,
    ) -> None:
        self.trials, self.similarity = trials, similarity_by(similarity, normalise)
        self.permutations = Permutations(permutations, trials) if permutations is not None else None
        self.gallery = "official permutations" if self.permutations else "random.seed"
        self.published = mpanet("sysu", similarity=self.similarity, gallery=self.gallery, trials=trials)
        drawn_by = str(self.permutations) if self.permutations else "random.seed(trial), not the official permutations"
        self.draw = f"{_galleries(trials)} drawn by {drawn_by}"

    @classmethod
    def of(cls, dataset: Dataset, **settings: Any) -> Self:
        """With the official permutations where they lie in the dataset's folder."""
        official = dataset.root / "exp/rand_perm_cam.mat"
        return cls(**{"permutations": official if official.is_file() else None} | settings)

    def elsewhere(self) -> Self:
        return type(self)(trials=self.trials, similarity=self.similarity)

    def searches(self, catalogue: Catalogue) -> list[Search]:
        files, seen = _files(catalogue, infrared=False), set(catalogue.cameras.tolist())
        galleries = {
            f"{scope}/{shot}": [self._gallery(files, cameras, shots, trial) for trial in range(self.trials)]
            for scope, cameras in SYSU_CAMERAS.items()
            if scope == "all" or seen.intersection(cameras)  # its validation people are under no indoor one
            for shot, shots in SYSU_SHOTS.items()
        }
        return [Search(rows_of(catalogue, infrared=True), galleries)]

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor:
        return (queries.cameras == 3)[:, None] & (gallery.cameras == 2)

    def _gallery(self, files: Files, cameras: Sequence[int], shots: int, trial: int) -> Tensor:
        generator = random.Random(trial)
        chosen: list[int] = []
        for identity, camera, rows in _in_order(files, cameras):
            if self.permutations:
                chosen += self.permutations.first(rows, camera, identity, trial, shots)
            elif shots == 1:
                chosen.append(generator.choice(rows))
            else:
                chosen += generator.sample(rows, min(shots, len(rows)))
        return torch.tensor(chosen, dtype=torch.int64)


@checked
class RegDBProtocol(RetrievalProtocol):
    """One trial of RegDB: all test images of one modality search among all of the other, in both directions.

    The defaults are the released evaluator's: Euclidean distances between un-normalised embeddings and the
    de-duplicated CMC. Most other code ranks by cosine and counts images (`cmc="plain"`).
    """

    draw = "all images of the other modality are the gallery"
    gallery = "all images"

    def __init__(
        self, cmc: CMC = "deduplicated", *, similarity: Similarity = "euclidean", normalise: bool | None = None
    ) -> None:
        self.cmc: CMC = cmc
        self.similarity = similarity_by(similarity, normalise)
        self.published = mpanet("regdb", similarity=self.similarity, gallery=self.gallery)

    def searches(self, catalogue: Catalogue) -> list[Search]:
        visible, thermal = rows_of(catalogue, infrared=False), rows_of(catalogue, infrared=True)
        return [
            Search(visible, {"visible_to_thermal": [thermal]}),
            Search(thermal, {"thermal_to_visible": [visible]}),
        ]


@checked
class LLCMProtocol(RetrievalProtocol):
    """LLCM, both directions: the gallery of a trial has one image per identity and camera of the other modality.

    A gallery image of the query's own identity and camera is ignored.
    """

    gallery = "random.seed"
    trials: int

    def __init__(
        self, trials: Trials = 10, *, similarity: Similarity = "cosine", normalise: bool | None = None
    ) -> None:
        self.trials, self.similarity = trials, similarity_by(similarity, normalise)
        self.draw = f"{_galleries(trials)} drawn by random.seed(trial), one image per identity and camera"

    def searches(self, catalogue: Catalogue) -> list[Search]:
        return [
            Search(rows_of(catalogue, infrared), {setting: self._galleries(catalogue, infrared=not infrared)})
            for setting, infrared in (("visible_to_infrared", False), ("infrared_to_visible", True))
        ]

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor:
        return same_identity_and_camera(queries, gallery)

    def _galleries(self, catalogue: Catalogue, infrared: bool) -> list[Tensor]:
        files = _files(catalogue, infrared)
        cameras = sorted({camera for camera, _ in files})
        galleries = []
        for trial in range(self.trials):
            generator = random.Random(trial)
            galleries.append(torch.tensor([generator.choice(rows) for _, _, rows in _in_order(files, cameras)]))
        return galleries


@checked
class FolderProtocol(RetrievalProtocol):
    """A user's own images: every image of one modality searches among all of the other, in both directions.

    `same_camera=True` applies the rule of camera networks: a gallery image of the query's own identity and camera is
    ignored. Leave it False where cameras are unknown or each camera sees one modality only.
    """

    draw = "all images of the other modality are the gallery"
    gallery = "all images"

    def __init__(
        self, same_camera: bool = False, *, similarity: Similarity = "cosine", normalise: bool | None = None
    ) -> None:
        self.same_camera, self.similarity = same_camera, similarity_by(similarity, normalise)
        if same_camera:
            self.draw += " but those of the query's identity and camera"

    @classmethod
    def of(cls, dataset: Dataset, **settings: Any) -> Self:
        return cls(**{"same_camera": True} | settings)

    def searches(self, catalogue: Catalogue) -> list[Search]:
        visible, infrared = rows_of(catalogue, infrared=False), rows_of(catalogue, infrared=True)
        return [
            Search(infrared, {"infrared_to_visible": [visible]}),
            Search(visible, {"visible_to_infrared": [infrared]}),
        ]

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> Tensor | None:
        return same_identity_and_camera(queries, gallery) if self.same_camera else None


Files = Mapping[tuple[int, int], list[int]]


def _galleries(trials: int) -> str:
    return "1 gallery" if trials == 1 else f"{trials} galleries"


def rows_of(catalogue: Catalogue, infrared: bool) -> Tensor:
    """The rows (M,) of one modality, in the order of their paths."""
    rows = (catalogue.infrared == infrared).nonzero().flatten().tolist()
    return torch.tensor(sorted(rows, key=catalogue.paths.__getitem__), dtype=torch.int64)


def _files(catalogue: Catalogue, infrared: bool) -> Files:
    """(camera, identity) -> the rows of its images of one modality, in the order of their paths."""
    files: dict[tuple[int, int], list[int]] = defaultdict(list)
    cameras, identities = catalogue.cameras.tolist(), catalogue.identities.tolist()
    for row in rows_of(catalogue, infrared).tolist():
        files[cameras[row], identities[row]].append(row)
    return files


def _in_order(files: Files, cameras: Sequence[int]) -> Iterator[tuple[int, int, list[int]]]:
    """(identity, camera, rows), identities ascending, each under the cameras that have images of it."""
    for identity in sorted({identity for _, identity in files}):
        for camera in cameras:
            if rows := files.get((camera, identity)):
                yield identity, camera, rows


def same_identity_and_camera(queries: Catalogue, gallery: Catalogue) -> Tensor:
    """Two images of an unknown camera, which is written 0, may be of two cameras."""
    same_camera = (queries.cameras[:, None] == gallery.cameras) & (gallery.cameras > 0)
    return (queries.identities[:, None] == gallery.identities) & same_camera
