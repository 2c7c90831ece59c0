"""The metric: whatever the share and order in which images arrive, each counts once."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from evaluation import made

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import ReIDMetric, SYSUProtocol, evaluate

PROTOCOL = SYSUProtocol(trials=2)


def scores_of(metric: ReIDMetric) -> dict[str, dict[str, list[float]]]:
    return {setting: score.trials for setting, score in metric.compute().items()}


def expected() -> dict[str, dict[str, list[float]]]:
    embeddings, catalogue = made.small(4)
    return {setting: score.trials for setting, score in evaluate(embeddings, catalogue, PROTOCOL).items()}


def test_batches_in_any_order_and_repeated_images_give_the_same_scores() -> None:
    embeddings, catalogue = made.small(4)
    metric = ReIDMetric(catalogue, PROTOCOL)
    order = torch.randperm(len(catalogue), generator=torch.Generator().manual_seed(0))
    for rows in torch.cat([order, order[:5]]).split(7):
        metric.update(embeddings[rows], rows)
    assert scores_of(metric) == expected()
    assert torch.equal(metric.embeddings(), embeddings.float())


def test_missing_images_are_counted() -> None:
    embeddings, catalogue = made.small(4)
    metric = ReIDMetric(catalogue, PROTOCOL)
    with pytest.raises(UserError, match=f"{len(catalogue)} of {len(catalogue)} test images have no embedding"):
        metric.embeddings()
    rows = torch.arange(3, len(catalogue))
    metric.update(embeddings[rows], rows)
    with pytest.raises(UserError, match=f"3 of {len(catalogue)} test images have no embedding"):
        metric.compute()


def test_it_starts_anew_after_a_reset() -> None:
    embeddings, catalogue = made.small(4)
    metric = ReIDMetric(catalogue, PROTOCOL)
    rows = torch.arange(len(catalogue))
    metric.update(torch.zeros_like(embeddings), rows)
    metric.reset()
    metric.update(embeddings, rows)
    assert scores_of(metric) == expected()


def test_embeddings_wait_in_float32() -> None:
    embeddings, catalogue = made.small(4)
    metric = ReIDMetric(catalogue, PROTOCOL)
    metric.update(embeddings.bfloat16(), torch.arange(len(catalogue)))
    assert metric.embeddings().dtype == torch.float32


def shares_of_two_ranks() -> dict[str, list[list[int]]]:
    rows = list(range(len(made.small(4)[1])))
    return {"overlapping": [rows[::-1][:-13], rows[:17]], "one rank has all": [rows, []]}


def one_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    embeddings, catalogue = made.small(4)
    for name, shares in shares_of_two_ranks().items():
        metric = ReIDMetric(catalogue, PROTOCOL)
        for rows in torch.tensor(shares[rank], dtype=torch.int64).split(5):
            if len(rows):
                metric.update(embeddings[rows], rows)
        assert torch.equal(metric.embeddings(), embeddings.float())
        torch.save(scores_of(metric), folder / f"{name} {rank}.pt")
        assert sum(map(len, metric.rows)) == len(shares[rank])  # afterwards each rank keeps its own share only
    dist.barrier()  # who leaves early can leave the other waiting in old gloo
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_with_uneven_shares_give_the_same_scores(tmp_path: Path) -> None:
    mp.spawn(one_rank, args=(tmp_path,), nprocs=2)
    for name in shares_of_two_ranks():
        for rank in range(2):
            assert torch.load(tmp_path / f"{name} {rank}.pt") == expected()
