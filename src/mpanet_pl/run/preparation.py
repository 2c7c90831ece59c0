"""`python -m mpanet_pl.prepare`: check a dataset whole, report everything wrong with it at once, build its cache."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hydra.errors import HydraException
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from mpanet_pl.data import Catalogue, Dataset, DatasetOnDisk, ReIDDataModule, Splits
from mpanet_pl.data.cache import cache_folder, open_splits
from mpanet_pl.data.decode import Unreadable, in_threads, read_rgb
from mpanet_pl.data.faults import BrokenDataset, Faults, listed
from mpanet_pl.data.joint import CAMERAS
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import check_matches
from mpanet_pl.interfaces import RetrievalProtocol
from mpanet_pl.run.datasets import build_data, build_protocol, set_trial
from mpanet_pl.run.request import NOTHING_TYPED, Request
from mpanet_pl.system.progress import track

Size = tuple[int, int]  # width, height
SECONDS_A_DAY = 86400


class Report(NamedTuple):
    splits: Splits  # as far as they could be read
    faults: Faults  # what keeps a run from using the dataset
    warnings: list[str]  # what a user should know of its results
    card: list[str] = []  # noqa: RUF012  # what else is known of it, a line a fact


def prepare(cfg: DictConfig, request: Request = NOTHING_TYPED) -> None:
    set_trial(cfg)
    data, workers = build_data(cfg.data), cfg.data.workers or None
    dataset, console = data.dataset, Console(soft_wrap=True, highlight=False)
    dataset.prepare()
    try:
        protocol, refused = build_protocol(cfg.protocol, dataset), []
    except (HydraException, UserError) as error:
        protocol, refused = None, [(isinstance(error, HydraException) and error.__cause__) or error]
    splits, faults, warnings, card = check(dataset, protocol, workers=workers)
    faults.add("what the protocol asks for", refused)
    if splits.train.paths:
        warnings.extend(_untrainable(data, splits.train))
    if splits.train.paths or splits.test.paths:
        console.print(table(splits))
        for line in card:
            console.print(line, markup=False)
    for warning in warnings:
        console.print(f"Warning: {warning}", markup=False)
    if faults:
        meant = dataset.hints() if isinstance(dataset, DatasetOnDisk) else []
        raise UserError("\n".join([f"{dataset.root} cannot be used:", faults.in_full(), *meant]))
    if data.cache:
        open_splits(dataset.root, splits, data.height, data.width, cache=data.cache, workers=workers)
        for folder, paths in _folders(dataset, splits):
            where = f"at {data.height}x{data.width} in {cache_folder(folder, data.cache)}"
            console.print(f"Ready: {len(paths)} images are cached {where}", markup=False)
    else:
        console.print("Ready: the image files are read at every use (data.cache=false)")


def check(dataset: Dataset, protocol: RetrievalProtocol | None = None, *, workers: int | None = None) -> Report:
    """Everything that a run needs of a dataset: its structure, every image decoded, the galleries of its protocol."""
    try:
        splits, faults = dataset.read(), Faults()
    except BrokenDataset as broken:
        splits, faults = broken.splits, broken.faults
    sizes, unreadable = _look_at(dataset, splits, workers)
    faults.add("images that cannot be read", unreadable)
    if protocol is not None and not faults:
        try:
            check_matches(splits.test, protocol)
        except UserError as error:
            faults.add("what the protocol asks for", [error])
    of_dataset = dataset.warnings(splits, protocol) if isinstance(dataset, DatasetOnDisk) else ()
    warnings = [*of_dataset, *_unmatched(splits.test)]
    return Report(splits, faults, warnings, [*card_of(dataset, splits, sizes)])


def table(splits: Splits) -> Table:
    """Who and what is in each split, by modality."""
    tracked = [splits.train, splits.test][splits.train.tracks is None].tracks is not None
    drawn = Table("split", "modality", "identities", "images", *(["tracklets"] if tracked else []), "cameras")
    for split, catalogue in (("train", splits.train), ("test", splits.test)):
        for modality, rows in (("visible", ~catalogue.infrared), ("infrared", catalogue.infrared)):
            part = catalogue[rows]
            cameras = _cameras(part, several=splits.roots is not None)
            tracks = [str(0 if part.tracks is None else len(part.tracks.unique()))] if tracked else []
            drawn.add_row(split, modality, str(part.num_identities), str(len(part)), *tracks, cameras)
    return drawn


def _cameras(catalogue: Catalogue, several: bool) -> str:
    """`? 1 2`; of several datasets `sysu 3 6, regdb 2`."""
    found: dict[str, set[int]] = {}
    own = catalogue.cameras % CAMERAS if several else catalogue.cameras
    for path, camera in zip(catalogue.paths, own.tolist(), strict=True):
        found.setdefault(path.partition("/")[0] if several else "", set()).add(camera)
    numbers = ((name, " ".join(str(one or "?") for one in sorted(cameras))) for name, cameras in found.items())
    return ", ".join(f"{name} {text}".strip() for name, text in numbers)


def card_of(dataset: Dataset, splits: Splits, sizes: Mapping[Size, int]) -> Iterator[str]:
    """What the table of the splits does not say, a line a fact: tracklets, sources, sizes, days, what is odd, terms."""
    for split, catalogue in (("train", splits.train), ("test", splits.test)):
        if catalogue.tracks is not None and len(catalogue):
            lengths = catalogue.tracks.unique(return_counts=True)[1]
            spread = f"{int(lengths.min())} to {int(lengths.max())} frames, half of them up to {int(lengths.median())}"
            yield f"{split} tracklets: {len(lengths)}, of {spread}"
        if catalogue.times is not None and catalogue.times.isfinite().any():
            days = catalogue.times[catalogue.times.isfinite()].div(SECONDS_A_DAY).floor().unique()
            yield f"{split} days: {len(days)}"
        if splits.roots and catalogue.sources:
            people = Counter(source.partition("/")[0] for source in set(catalogue.sources))
            yield f"{split} people by dataset: {', '.join(f'{name} {count}' for name, count in sorted(people.items()))}"
    if sizes:
        (width, height), often = max(sizes.items(), key=lambda item: (item[1], item[0]))
        low, high = (" x ".join(map(str, map(pick, zip(*sizes, strict=True)))) for pick in (min, max))
        share = 100 * often / sum(sizes.values())
        yield f"sizes (width x height): {low} to {high}; most often {width} x {height} ({share:.0f} %)"
    if isinstance(dataset, DatasetOnDisk):
        for oddity in dataset.oddities(splits):
            yield f"odd: {oddity}"
        yield f"terms: {dataset.terms}"


def _look_at(dataset: Dataset, splits: Splits, workers: int | None) -> tuple[Counter[Size], list[str]]:
    """How often each size is met, and which images cannot be read."""
    paths = sorted({*splits.train.paths, *splits.test.paths})
    if not paths:
        return Counter(), []
    look = partial(_size_or_reason, dataset.root, splits)
    seen = [*track(in_threads(look, paths, workers), f"Reading {dataset.root}", len(paths))]
    sizes = Counter(size for size in seen if not isinstance(size, str))
    return sizes, [f"{path} ({why})" for path, why in zip(paths, seen, strict=True) if isinstance(why, str)]


def _size_or_reason(root: Path, splits: Splits, path: str) -> Size | str:
    try:
        return read_rgb(splits.file(root, path)).size
    except Unreadable as error:
        return str(error)


def _folders(dataset: Dataset, splits: Splits) -> list[tuple[Path, Sequence[str]]]:
    """Each folder that the images lie in, and those images."""
    if splits.roots is None:
        return [(dataset.root, sorted({*splits.train.paths, *splits.test.paths}))]
    return [(root.folder, root.paths) for root in splits.roots.values()]


def _unmatched(test: Catalogue) -> Iterator[str]:
    infrared, visible = (set(test.identities[rows].tolist()) for rows in (test.infrared, ~test.infrared))
    if infrared and visible and (one_sided := infrared ^ visible):  # a dataset of one modality searches within it
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
