"""Who is this? The most similar rows of a gallery, exactly: blocked products of bounded memory over mapped shards."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from mpanet_pl.data.faults import listed
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.scoring import full_precision
from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.embedder import Embedder, load
from mpanet_pl.gallery.image_table import number_or_name
from mpanet_pl.gallery.shards import COLUMNS, COMPARABLE, TEXT
from mpanet_pl.gallery.store import RECORD, Block, Gallery, differing
from mpanet_pl.gallery.walking import absolute, relative
from mpanet_pl.system.hints import Range
from mpanet_pl.system.ranges import Finite, Weight, checked

SIMILARITIES_AT_ONCE = 2**24  # 64 MB
IN_A_GROUP = 32
Modality = Annotated[str, Range("visible or infrared", lambda word: word in ("visible", "infrared"))]
NOBODY = -1  # the row of a place that no row takes


@checked
@dataclass(frozen=True)
class Filter:
    """Which rows may answer; those of which it is not known may not.

    cameras, not_cameras, modality: by their names. after, before: seconds. other_camera: not the query's own.
    within: at most so many seconds from the query.
    """

    cameras: Sequence[str] = ()
    not_cameras: Sequence[str] = ()
    modality: Modality | None = None
    after: Finite | None = None
    before: Finite | None = None
    other_camera: bool = False
    within: Weight | None = None

    def __post_init__(self) -> None:
        for name in ("cameras", "not_cameras"):
            object.__setattr__(self, name, [number_or_name(camera) for camera in getattr(self, name)])

    def rows(self, columns: pa.Table) -> np.ndarray | None:
        """(n,) of a block: who may answer any query; None where all may."""
        masks = []
        if self.cameras:
            masks.append(pc.is_in(columns["camera"], pa.array(self.cameras, TEXT)))
        if self.not_cameras:
            named = pc.is_in(columns["camera"], pa.array(self.not_cameras, TEXT))
            masks.append(pc.and_(pc.is_valid(columns["camera"]), pc.invert(named)))
        if self.modality is not None:
            masks.append(pc.equal(columns["modality"], self.modality))
        if self.after is not None:
            masks.append(pc.greater_equal(columns["time"], self.after))
        if self.before is not None:
            masks.append(pc.less_equal(columns["time"], self.before))
        if not masks:
            return None
        return np.logical_and.reduce([pc.fill_null(mask, False).to_numpy() for mask in masks])


class Queries(NamedTuple):
    columns: pa.Table  # (Q) rows with all columns of a gallery, paths absolute
    vectors: Tensor  # (Q, D) float32, of length one
    root: Path = Path("/")  # below which their pictures may be shown

    def __len__(self) -> int:
        return len(self.vectors)


class Hits(NamedTuple):
    rows: np.ndarray  # (Q, k) int64, of the gallery; NOBODY where fewer may answer
    scores: np.ndarray  # (Q, k) float32, cosine similarities, descending


def search(
    gallery: Gallery, queries: Queries, *, k: int = 10, only: Filter = Filter(), device: torch.device | str = "cpu"
) -> Hits:
    """The `k` most similar rows of each query; its own image is left out."""
    if k < 1:
        raise UserError(f"k is at least 1, got {k}.")
    if queries.vectors.shape[1] != gallery.dimension:
        raise UserError(f"{gallery.folder} has vectors of {gallery.dimension}, the queries {queries.vectors.shape[1]}.")
    device = torch.device(device)
    vectors = queries.vectors.to(device)
    scores = vectors.new_full((len(vectors), k), -torch.inf)
    rows = torch.full((len(vectors), k), NOBODY, device=device)
    pairs = _Pairs(gallery, queries, only, device)
    with torch.inference_mode(), full_precision(device):
        for block in gallery.blocks(("path", "camera", "time", "modality")):
            kept = only.rows(block.columns)
            block = block if kept is None else _of(block, kept)
            if not len(block.vectors):
                continue
            numbers = torch.from_numpy(_numbers(block, kept)).to(device)
            them = _on(device, block.vectors)  # (n, D)
            refuse = pairs.of(block.columns)
            for some in torch.arange(len(vectors)).split(max(1, SIMILARITIES_AT_ONCE // len(them))):
                some = some.to(device)
                similarity = vectors[some] @ them.T  # (q, n)
                refuse(similarity, some)
                values, places = largest(similarity, k)
                both = torch.cat([scores[some], values], dim=1)
                order = both.argsort(dim=1, descending=True, stable=True)[:, :k]
                scores[some] = both.gather(1, order)
                rows[some] = torch.cat([rows[some], numbers[places]], dim=1).gather(1, order)
    rows[scores == -torch.inf] = NOBODY
    return Hits(rows.cpu().numpy(), scores.cpu().numpy())


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest of each row of (q, n), and where they stand; all, unsorted, where they are fewer.

    The k largest stand in the k groups of the largest maxima, and maxima are found faster than places.
    """
    count, width = values.shape
    groups = width // IN_A_GROUP
    if groups <= 4 * k:
        found = values.topk(min(k, width), dim=1)
        return found.values, found.indices
    grouped = values[:, : groups * IN_A_GROUP].view(count, IN_A_GROUP, groups)
    best = grouped.amax(1).topk(k, dim=1).indices  # (q, k)
    members = best[:, None] + groups * torch.arange(IN_A_GROUP, device=values.device)[:, None]  # (q, IN_A_GROUP, k)
    rest = torch.arange(groups * IN_A_GROUP, width, device=values.device).expand(count, -1)
    candidates = torch.cat([members.flatten(1), rest], dim=1)
    found = values.gather(1, candidates).topk(k, dim=1)
    return found.values, candidates.gather(1, found.indices)


class _Pairs:
    """Which pairs of a query and a row may not meet: equal images; as the filter says, cameras or times far apart."""

    def __init__(self, gallery: Gallery, queries: Queries, only: Filter, device: torch.device) -> None:
        self.only, self.device = only, device
        paths = relative(queries.columns["path"], gallery.root)
        self.paths = paths.combine_chunks().unique()
        self.path = self._tensor(pc.index_in(paths, self.paths))
        self.cameras = queries.columns["camera"].combine_chunks().unique().drop_null()
        self.camera = self._tensor(pc.index_in(queries.columns["camera"], self.cameras))
        self.time = self._tensor(queries.columns["time"], np.nan)

    def of(self, columns: pa.Table) -> Callable[[Tensor, Tensor], None]:
        """For a block: called on the similarities (q, n) of some queries, which it marks."""
        only = self.only
        path = self._tensor(pc.index_in(columns["path"], self.paths))  # (n,)
        own = (path >= 0).nonzero().flatten()  # few
        camera = self._tensor(pc.index_in(columns["camera"], self.cameras)) if only.other_camera else path
        unknown = self._tensor(pc.is_null(columns["camera"])) if only.other_camera else path
        time = path if only.within is None else self._tensor(columns["time"], np.nan)

        def refuse(similarity: Tensor, some: Tensor) -> None:
            same = self.path[some][:, None] == path[own]
            similarity[:, own] = similarity[:, own].masked_fill(same, -torch.inf)
            if only.other_camera:
                theirs = self.camera[some][:, None]
                similarity.masked_fill_((theirs == camera) | unknown | (theirs < 0), -torch.inf)
            if only.within is not None:
                near = (self.time[some][:, None] - time).abs() <= only.within  # NaN is not near
                similarity.masked_fill_(~near, -torch.inf)

        return refuse

    def _tensor(self, column: pa.ChunkedArray, null: float = -1) -> Tensor:
        filled = pc.fill_null(column, null) if column.null_count else column
        return torch.tensor(np.asarray(filled)).to(self.device)


def _on(device: torch.device, vectors: np.ndarray | Tensor) -> Tensor:
    if isinstance(vectors, Tensor):
        return vectors.to(device).float()
    if device.type == "cpu":
        return torch.from_numpy(vectors.astype(np.float32))
    return torch.tensor(vectors).to(device).float()


def _of(block: Block, kept: np.ndarray) -> Block:
    return block._replace(columns=block.columns.filter(pa.array(kept)), vectors=block.vectors[kept])


def _numbers(block: Block, kept: np.ndarray | None) -> np.ndarray:
    return block.start + (np.arange(len(block.vectors)) if kept is None else np.flatnonzero(kept))


def table_of(gallery: Gallery, queries: Queries, hits: Hits) -> pa.Table:
    """A row a hit: the query's path, the place from 1, the score, and what the gallery knows of who answers."""
    query, place = np.nonzero(hits.rows != NOBODY)
    found = gallery.rows(hits.rows[query, place])
    return pa.table(
        {
            "query": queries.columns["path"].take(pa.array(query)),
            "place": pa.array(place + 1, pa.int32()),
            "score": pa.array(hits.scores[query, place], pa.float32()),
            **{name: found[name] for name in COLUMNS},
        }
    )


def embedder_of(
    gallery: Gallery,
    *,
    ckpt: str | Path | None = None,
    device: torch.device | str = "auto",
    trust: str | Sequence[str] | None = (),
) -> Embedder:
    """Whoever made this gallery, from the checkpoint that its record names, or from where it lies now."""
    record = gallery.record
    if missing := [key for key in ("ckpt", "precision", "checkpoint") if not isinstance(record.get(key), str)]:
        raise UserError(f"{gallery.folder}/{RECORD} is damaged: it does not say its {', '.join(missing)}.")
    path = Path(ckpt or record["ckpt"])
    if not path.is_file():
        raise UserError(f"The checkpoint {path} that made {gallery.folder} is not there: add ckpt=PATH.")
    released = record["last_stride"] is not None
    sizes = {key: record[key] for key in ("height", "width", "last_stride")} if released else {}
    method = record.get("method")  # galleries from before 0.3 have none, and released ones of them are MPANet's
    embedder = load(
        path,
        device=device,
        trust=trust,
        precision=record["precision"],
        flip=record["flip"],
        embedding=record.get("embedding", "embedding"),
        projection=gallery.projection,
        method=method,
        **sizes,
    )
    if differing(record, embedder.record, COMPARABLE):
        raise UserError(f"{gallery.folder} was not made by {path}: it needs checkpoint {record['checkpoint'][:12]}….")
    return embedder


@contextmanager
def open_queries(
    gallery: Gallery,
    queries: str | Path,
    *,
    name: str | None = None,
    group: str | None = None,
    ckpt: str | Path | None = None,
    device: torch.device | str = "auto",
    trust: str | Sequence[str] | None = (),
) -> Iterator[Queries]:
    """Images as `embed` takes them, embedded as the gallery was; or a gallery, as it is."""
    if (Path(queries) / RECORD).exists():
        made = Gallery(queries)
        yield Queries(*queries_of(gallery, made)[:2], made.root)  # whoever made it chose the paths
        return
    embedder = embedder_of(gallery, ckpt=ckpt, device=device, trust=trust)
    with TemporaryDirectory() as folder:
        embed_images(embedder, queries, Path(folder) / "queries", name=name, group=group)
        made = Gallery(Path(folder) / "queries")
        if skipped := made.skipped():
            reasons = listed(f"{image.path} ({image.reason})" for image in skipped)
            if not len(made):
                raise UserError(f"{len(skipped)} queries cannot be read: {reasons}")
            print(f"{len(skipped)} queries cannot be read and are left out: {reasons}", flush=True)
        yield queries_of(gallery, made)


def queries_of(gallery: Gallery, made: Gallery) -> Queries:
    if other := differing(gallery.record, made.record, COMPARABLE):
        raise UserError(f"{made.folder} and {gallery.folder} cannot be compared: they differ in {', '.join(other)}.")
    columns = made.rows(np.arange(len(made)))
    columns = columns.set_column(0, "path", absolute(columns["path"], made.root))
    blocks = [torch.tensor(block.vectors).float() for block in made.blocks()]
    return Queries(columns, torch.cat(blocks) if blocks else torch.empty(0, made.dimension))
