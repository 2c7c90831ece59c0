"""What several ranks see together: rows gathered in rank order, gradients returned to the rank they came from."""

import torch
import torch.distributed as dist
from torch import Tensor


def gather(rows: Tensor) -> Tensor:
    """`rows` (n, …) of every rank, one rank after the other: (world · n, …); alone, the rows themselves.

    Every rank is expected to compute the same loss from them, and the ranks' gradients to be averaged afterwards, as
    DDP does: the average is then the gradient of that one loss.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return rows
    return _Gather.apply(rows)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        everyone = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(everyone, rows)
        return torch.cat(everyone)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        world = dist.get_world_size()
        return gradient.chunk(world)[dist.get_rank()] * world  # the loss counts once, DDP divides by the world
