"""The metric that gathers embeddings, over batches and over ranks, and scores them once all are there."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.protocols import RetrievalProtocol
from mpanet_pl.evaluation.rerank import Reranker
from mpanet_pl.evaluation.scoring import Scores, check_matches, evaluate


class ReIDMetric(Metric):
    """Scores of a test catalogue under a protocol.

    Ranks may see any share of the images, in any order, some of them twice: an image counts once, by its row `index` of
    the catalogue. Embeddings wait in float32 on the CPU, and are ranked on the device that they came from.
    """

    full_state_update = False
    chunks: list[Tensor]
    rows: list[Tensor]

    def __init__(self, catalogue: Catalogue, protocol: RetrievalProtocol, rerank: Reranker | None = None) -> None:
        super().__init__(dist_sync_fn=gather_chunks)
        check_matches(catalogue, protocol)
        self.catalogue = catalogue
        self.protocol = protocol
        self.rerank = rerank
        self.ranked_on = torch.device("cpu")
        self.add_state("chunks", default=[], dist_reduce_fx="cat")
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, embeddings: Tensor, index: Tensor) -> None:
        """`embeddings` (B, D) of the catalogue's rows `index` (B,)."""
        self.ranked_on = embeddings.device
        self.chunks.append(embeddings.detach().to("cpu", torch.float32))
        self.rows.append(index.cpu())

    def compute(self) -> dict[str, Scores]:
        return self.score(self._in_order())

    def embeddings(self) -> Tensor:
        """(N, D) of all ranks in the catalogue's order; every rank has to ask."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            return self._in_order()

    def score(self, embeddings: Tensor) -> dict[str, Scores]:
        """Of embeddings (N, D) in the catalogue's order."""
        return evaluate(embeddings.to(self.ranked_on), self.catalogue, self.protocol, rerank=self.rerank)

    def _in_order(self) -> Tensor:
        chunks = self.chunks if isinstance(self.chunks, list) else [self.chunks]  # one tensor once synchronised
        rows = self.rows if isinstance(self.rows, list) else [self.rows]
        seen = torch.zeros(len(self.catalogue), dtype=torch.bool)
        for index in rows:
            seen[index.long()] = True
        if not seen.all():
            missing = int((~seen).sum())
            first = self.catalogue.paths[int((~seen).nonzero()[0])]
            raise UserError(
                f"{missing} of {len(seen)} test images have no embedding, {first} among them; scores need every image "
                "(is the number of test batches limited?)"
            )
        embeddings = torch.empty(len(seen), chunks[0].shape[1])
        for index, chunk in zip(rows, chunks, strict=True):
            embeddings[index] = chunk
        return embeddings


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
