"""`python -m mpanet_pl.prepare`: check a dataset whole, report everything wrong with it at once, build its cache."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hydra.errors import HydraException
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from mpanet_pl.data import Catalogue, Dataset, DatasetOnDisk, ReIDDataModule, Splits, open_images
from mpanet_pl.data.cache import cache_folder
from mpanet_pl.data.decode import Unreadable, in_threads, read_rgb
from mpanet_pl.data.faults import BrokenDataset, Faults, listed
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import check_matches
from mpanet_pl.evaluation.protocols import RetrievalProtocol
from mpanet_pl.run.configuration import NOTHING_TYPED, Request
from mpanet_pl.run.datasets import build_data, build_protocol, settle_trial
from mpanet_pl.system.progress import track


class Report(NamedTuple):
    splits: Splits  # as far as they could be read
    faults: Faults  # what keeps a run from using the dataset
    warnings: list[str]  # what a user should know of its results


def prepare(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    settle_trial(cfg)
    data, workers = build_data(cfg.data), cfg.data.workers or None
    dataset, console = data.dataset, Console(soft_wrap=True, highlight=False)
    dataset.prepare()
    try:
        protocol, refused = build_protocol(cfg.protocol, dataset), []
    except (HydraException, UserError) as error:
        protocol, refused = None, [(isinstance(error, HydraException) and error.__cause__) or error]
    splits, faults, warnings = check(dataset, protocol, workers=workers)
    faults.add("what the protocol asks for", refused)
    if splits.train.paths:
        warnings.extend(_untrainable(data, splits.train))
    if splits.train.paths or splits.test.paths:
        console.print(table(splits))
    for warning in warnings:
        console.print(f"Warning: {warning}", markup=False)
    if faults:
        raise UserError(f"{dataset.root} cannot be used:\n{faults.in_full()}")
    if data.cache:
        paths = [*splits.train.paths, *splits.test.paths]
        open_images(dataset.root, paths, data.height, data.width, cache=data.cache, workers=workers)
        where = cache_folder(dataset.root, data.cache)
        console.print(f"Ready: {len(paths)} images are cached at {data.height}x{data.width} in {where}", markup=False)
    else:
        console.print("Ready: the image files are read at every use (data.cache=false)")


def check(dataset: Dataset, protocol: RetrievalProtocol | None = None, *, workers: int | None = None) -> Report:
    """Everything that a run needs of a dataset: its structure, every image decoded, the galleries of its protocol."""
    try:
        splits, faults = dataset.read(), Faults()
    except BrokenDataset as broken:
        splits, faults = broken.splits, broken.faults
    faults.add("images that cannot be read", _unreadable(dataset.root, splits, workers))
    if protocol is not None and not faults:
        try:
            check_matches(splits.test, protocol)
        except UserError as error:
            faults.add("what the protocol asks for", [error])
    of_dataset = dataset.warnings(splits, protocol) if isinstance(dataset, DatasetOnDisk) else ()
    warnings = [*of_dataset, *_unmatched(splits.test)]
    return Report(splits, faults, warnings)


def table(splits: Splits) -> Table:
    """Who and what is in each split, by modality."""
    drawn = Table("split", "modality", "identities", "images", "cameras")
    for split, catalogue in (("train", splits.train), ("test", splits.test)):
        for modality, rows in (("visible", ~catalogue.infrared), ("infrared", catalogue.infrared)):
            part = catalogue[rows]
            cameras = " ".join(str(camera or "?") for camera in part.cameras.unique().tolist())
            drawn.add_row(split, modality, str(part.num_identities), str(len(part)), cameras)
    return drawn


def _unreadable(root: Path, splits: Splits, workers: int | None) -> list[str]:
    paths = sorted({*splits.train.paths, *splits.test.paths})
    if not paths:
        return []
    reasons = track(in_threads(partial(_why_unreadable, root), paths, workers), f"Reading {root}", len(paths))
    return [f"{path} ({reason})" for path, reason in zip(paths, reasons, strict=True) if reason]


def _why_unreadable(root: Path, path: str) -> str | None:
    try:
        read_rgb(root / path)
    except Unreadable as error:
        return str(error)
    return None


def _unmatched(test: Catalogue) -> Iterator[str]:
    infrared, visible = (set(test.identities[rows].tolist()) for rows in (test.infrared, ~test.infrared))
    if one_sided := infrared ^ visible:
        first = {
            identity: path for path, identity in reversed([*zip(test.paths, test.identities.tolist(), strict=True)])
        }
        yield (
            f"test people with images of one modality only ({len(one_sided)}), who are searched for or found in vain: "
            f"{listed(first[identity] for identity in sorted(one_sided))}"
        )


def _untrainable(data: ReIDDataModule, train: Catalogue) -> Iterator[str]:
    """Why no batch can be drawn from the training split; it can be tested on nevertheless."""
    data.train = train
    try:
        data.training_batches()
    except UserError as error:
        yield str(error)
