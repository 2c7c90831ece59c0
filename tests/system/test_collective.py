"""What ranks gather, and how its gradient comes back, without a process for each of them."""

import pytest
import torch
import torch.distributed as dist

from mpanet_pl.system.collective import gather


@pytest.mark.parametrize(("rank", "world"), [(0, 3), (2, 3), (0, 2), (1, 2)])
def test_a_rank_gets_the_gradient_of_its_own_rows_as_often_as_there_are_ranks(
    rank: int, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rank has the whole loss; the mean over ranks, which DDP takes, is then its gradient."""
    rows = torch.arange(4.0 * world).view(world, 2, 2)

    def all_gather(everyone: list[torch.Tensor], mine: torch.Tensor) -> None:
        assert torch.equal(mine, rows[rank])
        assert mine.is_contiguous(), "which NCCL asks for"
        for place, one in zip(everyone, rows, strict=True):
            place.copy_(one)

    for name, value in (("is_initialized", True), ("get_world_size", world), ("get_rank", rank)):
        monkeypatch.setattr(dist, name, lambda value=value: value)
    monkeypatch.setattr(dist, "all_gather", all_gather)
    mine = rows[rank].T.contiguous().T.requires_grad_()
    gathered = gather(mine)
    assert torch.equal(gathered, rows.flatten(0, 1))
    weight = torch.arange(1.0, 1 + 4 * world).view(-1, 2)
    (gathered * weight).sum().backward()
    assert mine.grad is not None
    assert torch.equal(mine.grad, world * weight.view(world, 2, 2)[rank])


@pytest.mark.parametrize("launched", [False, True])
def test_alone_rows_are_themselves(launched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: launched)
    monkeypatch.setattr(dist, "get_world_size", lambda: 1)
    rows = torch.zeros(2, 3, requires_grad=True)
    assert gather(rows) is rows
