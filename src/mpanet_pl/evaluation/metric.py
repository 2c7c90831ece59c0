"""The metric that gathers embeddings, over batches and over ranks, and scores them once all are there."""

from collections.abc import Sequence
from math import nan
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.among import Among
from mpanet_pl.evaluation.outcomes import NAMES
from mpanet_pl.evaluation.scoring import Scores, check_embeddings, check_matches, evaluate
from mpanet_pl.interfaces import Reranker, RetrievalProtocol


class ReIDMetric(Metric):
    """Scores of a test catalogue under a protocol, as a metric of torchmetrics: any network's embeddings will do.

    Examples:
        >>> from mpanet_pl.evaluation import FolderProtocol
        >>> rows = [("a", 7, 1, False), ("b", 8, 1, False), ("c", 7, 2, True), ("d", 8, 2, True)]
        >>> catalogue = Catalogue.from_rows(rows)
        >>> metric = ReIDMetric(catalogue, FolderProtocol())
        >>> metric.update(torch.eye(2), torch.tensor([0, 1]))              # embeddings (B, D), rows of the catalogue
        >>> metric.update(torch.tensor([[1.0, 0.5], [0.8, 0.2]]), torch.tensor([2, 3]))
        >>> metric.compute()["infrared_to_visible/r1"]
        tensor(50.)

    `compute` gives "SETTING/SCORE" -> percent, which a logger takes; `scores` gives the settings' `Scores`. Ranks may
    see any share of the images, in any order, some of them twice: an image counts once, by its row. Embeddings wait in
    float32 on the CPU, and are ranked on the device that they came from.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0
    chunks: list[Tensor]
    rows: list[Tensor]

    def __init__(
        self, catalogue: Catalogue, protocol: RetrievalProtocol, rerank: Reranker | None = None, **of_metric: Any
    ) -> None:
        """`of_metric`: what `torchmetrics.Metric` takes."""
        super().__init__(**{"dist_sync_fn": gather_chunks, "compute_with_cache": False} | of_metric)
        check_matches(catalogue, protocol)
        self.catalogue = catalogue
        self.protocol = protocol
        self.rerank = rerank
        self.ranked_on = torch.device("cpu")
        self._of_a_batch = False
        self.add_state("chunks", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, embeddings: Tensor, index: Tensor) -> None:
        """`embeddings` (B, D) of the catalogue's rows `index` (B,)."""
        index = self._checked(index)
        check_embeddings(embeddings, len(index))
        if self.chunks and embeddings.shape[1] != (width := self.chunks[0].shape[1]):
            raise UserError(f"Embeddings were {width} wide so far, and are {embeddings.shape[1]} wide now")
        self.ranked_on = embeddings.device
        self.chunks.append(embeddings.detach().to("cpu", torch.float32))
        self.rows.append(index)

    def compute(self, partial: bool = False) -> dict[str, Tensor]:
        """{"all/single/r1": percent, …}, scalars of float32; with `partial` as `scores`."""
        scores = self._scores(partial or self._of_a_batch)
        return {
            f"{setting}/{name}": torch.tensor(mean, device=self.device)
            for setting, score in scores.items()
            for name, mean in score.means.items()
        }

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Update, and the scores among this batch alone."""
        self._of_a_batch = True
        try:
            of_the_batch: dict[str, Tensor] = super().forward(*args, **kwargs)
            return of_the_batch
        finally:
            self._of_a_batch = False

    def set_dtype(self, dst_type: str | torch.dtype) -> Self:
        """Nothing changes: embeddings wait in float32, and rows are numbers of images."""
        return self

    def scores(self, partial: bool = False) -> dict[str, Scores]:
        """Every setting's scores; every rank has to ask.

        An image without embedding is an error. With `partial` (a sanity check, limited batches) the images that have
        one are scored among themselves, and a setting where none of them has a true match is left out.
        """
        with self._synchronised():
            return self._scores(partial)

    def embeddings(self) -> Tensor:
        """(N, D) of all ranks in the catalogue's order; every rank has to ask."""
        with self._synchronised():
            return self._in_order()

    def score(self, embeddings: Tensor) -> dict[str, Scores]:
        """Of embeddings (N, D) in the catalogue's order."""
        return self._evaluate(embeddings, self.protocol)

    def plot(self, val: Any | None = None, ax: Any | None = None) -> Any:
        """Figure and axes with every score; `val` is one result of `compute`, or several to draw as curves."""
        return self._plot(val, ax)

    def _synchronised(self) -> Any:
        return self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync)

    def _scores(self, partial: bool) -> dict[str, Scores]:
        if not partial:
            return self._evaluate(self._in_order(), self.protocol)
        seen = self._seen()
        searches = self.protocol.searches(self.catalogue)
        draw = f"of which {int(seen.sum())} of {len(seen)} test images were seen"
        among = Among(self.protocol, self.catalogue, searches, asked=seen, kept=seen, draw=draw)
        return self._evaluate(self._filled(seen), among) if among.found else {}

    def _evaluate(self, embeddings: Tensor, protocol: RetrievalProtocol) -> dict[str, Scores]:
        return evaluate(embeddings.to(self.ranked_on), self.catalogue, protocol, rerank=self.rerank)

    def _in_order(self) -> Tensor:
        seen = self._seen()
        if not seen.all():
            missing = int((~seen).sum())
            first = self.catalogue.paths[int((~seen).nonzero()[0])]
            raise UserError(
                f"{missing} of {len(seen)} test images have no embedding, {first} among them; scores need every image "
                "(is the number of test batches limited? partial=True scores those that were seen)"
            )
        return self._filled(seen)

    def _seen(self) -> Tensor:
        """(N,) bool: which images have an embedding."""
        seen = torch.zeros(len(self.catalogue), dtype=torch.bool)
        for index in _as_list(self.rows):
            seen[index.cpu()] = True
        return seen

    def _filled(self, seen: Tensor) -> Tensor:
        """(N, D) in the catalogue's order, 0 where nothing was seen."""
        chunks = _as_list(self.chunks)
        embeddings = torch.empty(len(seen), chunks[0].shape[1])
        for index, chunk in zip(_as_list(self.rows), chunks, strict=True):
            embeddings[index.cpu()] = chunk.cpu()
        return embeddings.masked_fill_(~seen[:, None], 0)

    def _checked(self, index: Tensor) -> Tensor:
        """On the CPU, as int64; refused where it names no rows."""
        if index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
            raise UserError(f"index should be row numbers (B,), got {index.dtype} {tuple(index.shape)}")
        index = index.to("cpu", torch.int64)
        outside = index[(index < 0) | (index >= len(self.catalogue))]
        if len(outside):
            raise UserError(f"index {int(outside[0])} is no row of a catalogue of {len(self.catalogue)} images")
        return index


class ReIDScore(ReIDMetric):
    """One score of `ReIDMetric` as a scalar, for `MetricTracker`, `MinMaxMetric`, plots and `self.log(name, metric)`.

    Examples:
        >>> from mpanet_pl.evaluation import FolderProtocol
        >>> catalogue = Catalogue.from_rows([("a", 7, 1, False), ("b", 8, 1, False), ("c", 7, 2, True)])
        >>> metric = ReIDScore("infrared_to_visible/mAP", catalogue, FolderProtocol())
        >>> metric.update(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.8]]), torch.arange(3))
        >>> metric.compute()
        tensor(50.)
    """

    def __init__(
        self,
        name: str,
        catalogue: Catalogue,
        protocol: RetrievalProtocol,
        rerank: Reranker | None = None,
        **of_metric: Any,
    ) -> None:
        super().__init__(catalogue, protocol, rerank, **of_metric)
        settings = [setting for search in protocol.searches(catalogue) for setting in search.galleries]
        if name not in (known := [f"{setting}/{score}" for setting in settings for score in NAMES]):
            raise UserError(f"A score is one of {', '.join(known)}, got {name}.")
        self.name = name

    def compute(self, partial: bool = False) -> Tensor:  # type: ignore[override]
        """Percent; NaN where none of the images that were seen has a true match."""
        return super().compute(partial).get(self.name, torch.tensor(nan, device=self.device))


def _as_list(state: Sequence[Tensor] | Tensor) -> Sequence[Tensor]:
    """A state's parts; synchronised, it is one tensor."""
    return [state] if isinstance(state, Tensor) else state


def gather_chunks(chunk: Tensor, group: Any = None) -> list[Tensor]:
    """Every rank's rows, in rank order, however many each has. NCCL sends between GPUs only, so there they pass one."""
    group = group or dist.group.WORLD
    rank = dist.get_rank(group)
    layouts: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(layouts, (chunk.shape, chunk.dtype), group)
    through = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend(group) == "nccl" else chunk.device
    everyone = []
    for source, (shape, dtype) in enumerate(layouts):
        if shape.numel() == 0:
            continue
        part = chunk.contiguous() if source == rank else torch.empty(shape, dtype=dtype)
        part = part.to(through)
        dist.broadcast(part, dist.get_global_rank(group, source), group)
        everyone.append(part.to(chunk.device))
    return everyone or [chunk]
