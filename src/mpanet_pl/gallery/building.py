"""Images by the thousand or the hundred million to a gallery: shard by shard, in overlap, on any number of ranks.

What is to be done is written down first (`plan.parquet`), cut into shards; a shard is whole or absent. So a killed run
goes on with the shards that are missing, ranks share them by number, and all of it ends with the same bytes.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mpanet_pl.data.decode import Unreadable, in_threads
from mpanet_pl.data.faults import listed
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.bounded_images import decoded
from mpanet_pl.gallery.embedder import Embedder, stacked
from mpanet_pl.gallery.generations import PLAN, commit, merged, shard_name
from mpanet_pl.gallery.image_table import list_images, root_of
from mpanet_pl.gallery.known import threshold_of
from mpanet_pl.gallery.planning import SKIPPED, commit_finished, plan, write_skipped
from mpanet_pl.gallery.projection import Projection
from mpanet_pl.gallery.shards import Skipped, track_keys, tracklets, write_shard
from mpanet_pl.gallery.store import (
    DTYPES,
    PROJECTION,
    RECORD,
    Gallery,
    differing,
    gallery_projection,
    read_record,
    write_record,
)
from mpanet_pl.system.cores import usable_cores
from mpanet_pl.system.files import alone_in
from mpanet_pl.system.progress import track
from mpanet_pl.system.shell import typed

COMMIT_AFTER = 60  # seconds: a long embed hands its shards over, so that they can be searched
VERSIONS = ("mpanet_pl", "torch", "pillow", "pyarrow")


class Ranks(NamedTuple):
    """Which of several processes this one is, and how it waits for the others."""

    rank: int = 0
    world: int = 1
    wait: Callable[[], None] = lambda: None


class Embedded(NamedTuple):
    images: int  # embedded by this rank in this call
    rows: int  # of the gallery now
    dimension: int
    skipped: int  # of the gallery now
    seconds: float
    waited: float  # the share of them in which the device's thread waited for decoded images
    notes: tuple[str, ...] = ()  # what else was found, a sentence each

    def summary(self, folder: Path) -> str:
        speed = f" ({self.images / self.seconds:.0f} images/s)" if self.seconds else ""
        lines = [
            f"{self.images} image{'s' * (self.images != 1)} in {self.seconds:.1f} s{speed}; "
            f"{100 * self.waited:.0f} % of it the network waited for images."
            if self.images
            else "No image is new or changed."
        ]
        lines += [f"{folder} holds {self.rows} rows of {self.dimension} numbers.", *self.notes]
        if self.skipped:
            lines.append(f"{self.skipped} image{'s' * (self.skipped != 1)} could not be read: {folder / SKIPPED}")
        lines.append(str(read_record(folder).get("terms", "")))
        lines.append(f"Next: python -m mpanet_pl.search {typed('gallery', folder)} queries=IMAGE out=answers")
        return "\n".join(lines)


def embed_images(
    embedder: Embedder,
    images: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    group: str | None = None,
    dtype: str = "float32",
    strict: bool = False,
    prune: bool = False,
    batch_size: int = 64,
    shard_size: int = 4096,
    workers: int | None = None,
    compact: Callable[[Path], Projection | None] | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008 - a constant
) -> Embedded:
    """Embed what of `images` the gallery `out` does not hold as it is; see `list_images` for `images`, `name`, `group`.

    prune: rows of files that are not there any more leave the gallery.
    strict: refuse images that cannot be read, instead of listing them in skipped.csv.
    compact: asked for the embedder's projection, once all else is known to be right.
    """
    _check_values(dtype, batch_size, shard_size)
    folder = Path(out).expanduser()
    work = _Work(embedder, folder, strict, batch_size, max(1, usable_cores() if workers is None else workers), ranks)
    notes: list[str] = []
    with ExitStack() as stack:
        if ranks.rank == 0:
            listing = partial(list_images, images, name=name, group=group)
            found = listing(notes=notes)  # what is wrong with it is told before there is a folder
            if embedder.two_stream:
                _check_modality(found)
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(alone_in(folder))
            _claim(folder, embedder, compact, {"dtype": dtype, "group": group, "root": str(root_of(images))})
            planned = partial(plan, folder, listing, Path(images).expanduser(), shard_size, prune=prune)
            was_killed = (folder / PLAN).exists()
            notes += planned()
        ranks.wait()
        if ranks.rank:
            embedder.projection = gallery_projection(folder)
        began = time.monotonic()
        while (folder / PLAN).exists():
            work.run()
            ranks.wait()
            if ranks.rank == 0:
                commit_finished(folder)
                (folder / PLAN).unlink()
                if was_killed:
                    notes, was_killed = [*notes, *planned()], False  # what came since that run made its plan
            ranks.wait()
        seconds = time.monotonic() - began
        if ranks.rank == 0:
            _finish(folder, shard_size)
        ranks.wait()
        gallery = Gallery(folder)
        skipped = len(gallery.skipped())
    waited = work.waited / seconds if work.images else 0.0
    return Embedded(work.images, len(gallery), gallery.dimension, skipped, seconds, waited, tuple(dict.fromkeys(notes)))


def _check_values(dtype: str, batch_size: int, shard_size: int) -> None:
    if dtype not in DTYPES:
        raise UserError(f"dtype is one of {', '.join(DTYPES)}, got {dtype}.")
    if batch_size < 1 or shard_size < 1:
        raise UserError(f"batch_size and shard_size are at least 1, got {batch_size} and {shard_size}.")


def _finish(folder: Path, shard_size: int) -> None:
    gallery = Gallery(folder)
    merged(folder, gallery.record, gallery.manifest, shard_size)
    write_skipped(folder)


def _check_modality(images: pa.Table) -> None:
    if unknown := images["modality"].null_count:
        raise UserError(
            f"This network has two streams: it has to be told which images are infrared, and of {unknown} of "
            f"{len(images)} it is not known. Add a column `modality` to the .csv, or name='…(?P<modality>…)…'."
        )


def _claim(
    folder: Path, embedder: Embedder, compact: Callable[[Path], Projection | None] | None, asked: dict[str, Any]
) -> None:
    """Leave the record there, or check that this embedder continues what is there."""
    if not (folder / RECORD).exists() and any(path.name != PROJECTION for path in folder.iterdir()):
        raise UserError(f"{folder} holds other files: give a new folder.")
    if compact:
        embedder.projection = compact(folder)
    record = {**embedder.record, **asked}
    if (folder / RECORD).exists():
        there = read_record(folder)
        if changed := differing(there, record):
            was = ", ".join(f"{key}={there[key]}" for key in changed)
            raise UserError(f"{folder} holds a gallery made otherwise ({was}): give another out=…, or the same values.")
        commit_finished(folder)
        return
    if embedder.projection:
        embedder.projection.save(folder / PROJECTION)
    terms = embedder.origin.terms("this gallery")
    made_by = {"device": str(embedder.device), "versions": {name: version(name) for name in VERSIONS}, "terms": terms}
    write_record(folder, {"format": 1, **record, **made_by, "threshold": threshold_of(embedder)})
    commit(folder, [])


class _Work:
    """One rank's share of a plan."""

    def __init__(
        self, embedder: Embedder, folder: Path, strict: bool, batch_size: int, workers: int, ranks: Ranks
    ) -> None:
        self.embedder, self.folder, self.strict = embedder, folder, strict
        self.batch_size, self.workers, self.ranks = batch_size, workers, ranks
        self.images, self.waited, self.committed = 0, 0.0, time.monotonic()

    def run(self) -> None:
        images_left = pq.read_table(self.folder / PLAN, memory_map=True)
        record = read_record(self.folder)
        shards = images_left["shard"].to_numpy()
        begins = np.flatnonzero(np.append(True, shards[1:] != shards[:-1]))
        ends = np.append(begins[1:], len(shards))
        mine = [
            (self.folder / shard_name(shards[begin]), images_left.slice(begin, end - begin))
            for begin, end in zip(begins, ends, strict=True)
            if shards[begin] % self.ranks.world == self.ranks.rank
        ]
        mine = [(path, images) for path, images in mine if not path.exists()]
        root = Path(record["root"])
        paths = (str(path) for _, images in mine for path in images["path"])
        total = sum(len(images) for _, images in mine)
        read = partial(_read, root, self.embedder.height, self.embedder.width)
        depth = 2 * self.batch_size + self.workers
        pictures = self._counted(in_threads(read, paths, self.workers, depth=depth))
        if self.ranks.rank == 0:
            pictures = track(pictures, "Embedding", total, unit="images")
        with ThreadPoolExecutor(1) as writer:  # a shard is written while the next one is embedded
            written: Future[Path] | None = None
            for path, images in mine:
                shard = self._embedded(images, pictures, record)
                if written is not None:
                    written.result()
                written = writer.submit(write_shard, path, *shard)
                if self.ranks.rank == 0 and time.monotonic() - self.committed > COMMIT_AFTER:
                    commit_finished(self.folder, others_write=True)
                    self.committed = time.monotonic()
            if written is not None:
                written.result()
        for _ in pictures:  # so that the progress ends
            raise AssertionError("every image has its shard")

    def _counted(self, pictures: Iterator[np.ndarray | str]) -> Iterator[np.ndarray | str]:
        while True:
            began = time.monotonic()
            try:
                picture = next(pictures)
            except StopIteration:
                return
            self.waited += time.monotonic() - began
            self.images += 1
            yield picture

    def _embedded(
        self, images: pa.Table, pictures: Iterator[np.ndarray | str], record: dict[str, Any]
    ) -> tuple[pa.Table, np.ndarray, dict[str, Any], list[Skipped]]:
        """A shard's rows and vectors, as `write_shard` takes them."""
        batches: list[Tensor] = []
        kept = np.zeros(len(images), bool)
        infrared = torch.tensor(pc.fill_null(pc.equal(images["modality"], "infrared"), False).to_numpy())
        skipped: list[Skipped] = []
        for start in range(0, len(images), self.batch_size):
            readable = []
            for row, picture in enumerate(islice(pictures, min(self.batch_size, len(images) - start)), start=start):
                if isinstance(picture, str):
                    known = images.slice(row, 1).drop_columns("shard").to_pylist()[0]
                    skipped.append(Skipped(known.pop("path"), picture, known))
                else:
                    kept[row] = True
                    readable.append(picture)
            if readable:
                rows = torch.from_numpy(kept[start : start + self.batch_size])
                batches.append(self.embedder(stacked(readable), infrared[start : start + self.batch_size][rows]))
        if skipped and self.strict:
            reasons = listed(f"{image.path} ({image.reason})" for image in skipped)
            raise UserError(f"{len(skipped)} images cannot be read, and strict=true refuses them: {reasons}")
        vectors = torch.cat(batches) if batches else torch.empty(0, int(record["dimension"]))
        images = images.filter(pa.array(kept)).drop_columns("shard")
        if record["group"] is not None and len(images):
            images, vectors = tracklets(images), _means(images, vectors)
        return images, vectors.cpu().numpy(), record, skipped


def _means(images: pa.Table, vectors: Tensor) -> Tensor:
    """One vector a tracklet, the mean of its frames'; in order of appearance."""
    names = track_keys(images["camera"], images["track"]).combine_chunks().dictionary_encode()
    number = torch.from_numpy(names.indices.to_numpy().astype(np.int64)).to(vectors.device)
    return normalize(vectors.new_zeros(len(names.dictionary), vectors.shape[1]).index_add_(0, number, vectors))


def _read(root: Path, height: int, width: int, path: str) -> np.ndarray | str:
    """The pixels, or what is wrong with the image."""
    try:
        return decoded(root / path, height, width)
    except Unreadable as error:
        return str(error)
