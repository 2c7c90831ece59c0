"""The metric: whatever the share and order in which images arrive, each counts once."""

import copy
import pickle
import time
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from evaluation import made
from torchmetrics import MetricCollection, MetricTracker
from torchmetrics.wrappers import MinMaxMetric

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import FolderProtocol, RegDBProtocol, ReIDMetric, ReIDScore, SYSUProtocol, evaluate

PROTOCOL = SYSUProtocol(trials=2)


def scores_of(metric: ReIDMetric) -> dict[str, dict[str, list[float]]]:
    return {setting: score.trials for setting, score in metric.scores().items()}


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
    metric.compute(partial=True)  # which is not kept in place of the whole
    missing = rf"3 of {len(catalogue)} test images have no embedding, {catalogue.paths[0]} among them"
    with pytest.raises(UserError, match=missing):
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


def filled(metric: ReIDMetric) -> ReIDMetric:
    embeddings, catalogue = made.small(4)
    metric.update(embeddings, torch.arange(len(catalogue)))
    return metric


def test_compute_gives_every_score_as_a_scalar() -> None:
    metric = filled(ReIDMetric(made.small(4)[1], PROTOCOL))
    computed = metric.compute()
    assert all(value.shape == () and value.dtype == torch.float32 for value in computed.values())
    assert {name: float(value) for name, value in computed.items()} == {
        f"{setting}/{name}": pytest.approx(sum(values) / len(values))
        for setting, trials in expected().items()
        for name, values in trials.items()
    }


def test_scores_have_the_gradients_that_the_metric_says() -> None:
    embeddings, catalogue = made.small(4)
    metric = ReIDMetric(catalogue, PROTOCOL)
    metric.update(embeddings.requires_grad_(), torch.arange(len(catalogue)))
    assert metric.is_differentiable == any(score.requires_grad for score in metric.compute().values())


def test_a_call_updates_and_scores_the_batch_alone() -> None:
    embeddings, catalogue = made.small(4)
    metric = ReIDMetric(catalogue, PROTOCOL)
    half = torch.randperm(len(catalogue), generator=torch.Generator().manual_seed(0))[: len(catalogue) // 2]
    alone = ReIDMetric(catalogue, PROTOCOL)
    alone.update(embeddings[half], half)
    assert metric(embeddings[half], half) == alone.compute(partial=True)
    rest = torch.tensor(sorted(set(range(len(catalogue))) - set(half.tolist())))
    metric(embeddings[rest], rest)
    assert scores_of(metric) == expected()


def test_what_was_seen_is_scored_among_itself() -> None:
    """As if the others did not exist."""
    embeddings, catalogue = made.small(4)
    metric = ReIDMetric(catalogue, FolderProtocol())
    assert metric.scores(partial=True) == {}
    rows = torch.randperm(len(catalogue), generator=torch.Generator().manual_seed(1))[:20].sort().values
    metric.update(embeddings[rows], rows)
    found = metric.scores(partial=True)
    alone = evaluate(embeddings[rows], catalogue[rows], FolderProtocol())
    assert {name: score.trials for name, score in found.items()} == {name: s.trials for name, s in alone.items()}
    assert f"20 of {len(catalogue)} test images were seen" in found["infrared_to_visible"].measured


def test_one_modality_alone_gives_no_scores_and_no_error() -> None:
    embeddings, catalogue = made.small(4)
    metric = ReIDMetric(catalogue, PROTOCOL)
    rows = catalogue.infrared.nonzero().flatten()
    assert metric(embeddings[rows], rows) == {}


def test_clones_and_pickles_go_on_alone() -> None:
    embeddings, catalogue = made.small(4)
    metric = ReIDMetric(catalogue, PROTOCOL)
    first, rest = torch.arange(9), torch.arange(9, len(catalogue))
    metric.update(embeddings[first], first)
    for other in (metric.clone(), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        other.update(embeddings[rest], rest)
        assert scores_of(other) == expected()
    assert len(metric.rows) == 1


def test_a_collection_scores_under_two_protocols() -> None:
    embeddings, catalogue = made.small(4)
    both = MetricCollection(
        {"by_cosine": ReIDMetric(catalogue, FolderProtocol()), "sysu": ReIDMetric(catalogue, PROTOCOL)}
    )
    for rows in torch.arange(len(catalogue)).split(9):
        both.update(embeddings[rows], rows)
    computed = both.compute()
    assert computed.keys() >= {"all/single/r1", "infrared_to_visible/mAP"}
    assert float(computed["all/single/r1"]) == pytest.approx(sum(expected()["all/single"]["r1"]) / 2)


def test_it_plots_one_result_and_a_course() -> None:
    metric = filled(ReIDMetric(made.small(4)[1], RegDBProtocol()))
    for values in (None, [metric.compute(), metric.compute()]):
        figure, axes = metric.plot(values)
        assert len(axes.lines) == len(metric.compute())
        plt.close(figure)


def test_one_score_is_a_scalar_metric() -> None:
    """What trackers, extremes and collections' plots ask for; the best is the highest."""
    embeddings, catalogue = made.small(4)
    rows = torch.arange(len(catalogue))
    worse = torch.zeros_like(embeddings)
    score, good = ReIDScore("all/single/mAP", catalogue, PROTOCOL), expected()["all/single"]["mAP"]
    tracker, extremes = MetricTracker(score.clone()), MinMaxMetric(score.clone())
    for given in (worse, embeddings, worse):
        tracker.increment()
        tracker.update(given, rows)
    assert tracker.best_metric(return_step=True) == (pytest.approx(sum(good) / 2), 1)
    extremes.update(embeddings, rows)
    assert extremes.compute()["max"] == pytest.approx(sum(good) / 2)
    collection = MetricCollection({"r1": ReIDScore("all/single/r1", catalogue, PROTOCOL), "mAP": score})
    collection.update(embeddings, rows)
    assert collection.compute().keys() == {"r1", "mAP"}
    for figure, _ in collection.plot():
        plt.close(figure)
    with pytest.raises(UserError, match=r"A score is one of all/single/r1, .* got all/single/map"):
        ReIDScore("all/single/map", catalogue, PROTOCOL)


def test_a_score_that_nothing_tells_is_no_number() -> None:
    embeddings, catalogue = made.small(4)
    rows = catalogue.infrared.nonzero().flatten()
    assert ReIDScore("all/single/r1", catalogue, PROTOCOL)(embeddings[rows], rows).isnan()


def test_it_takes_torchmetrics_keywords_and_keeps_its_precision() -> None:
    metric = filled(ReIDMetric(made.small(4)[1], PROTOCOL, compute_with_cache=True, sync_on_compute=False))
    assert metric.sync_on_compute is False
    assert scores_of(metric.set_dtype(torch.float64)) == scores_of(metric.set_dtype(torch.float16)) == expected()
    assert metric.chunks[0].dtype == torch.float32


def test_it_is_built_in_milliseconds_at_the_size_of_sysu() -> None:
    _, catalogue = made.sysu(dim=1)
    began = time.process_time()
    ReIDMetric(catalogue, SYSUProtocol())
    assert time.process_time() - began < 0.5  # 0.06 on a quiet core


@pytest.mark.parametrize("index", [[-1], [10_000]])
def test_rows_outside_the_catalogue_are_refused(index: list[int]) -> None:
    embeddings, catalogue = made.small(4)
    with pytest.raises(UserError, match=f"index {index[0]} is no row of a catalogue of {len(catalogue)} images"):
        ReIDMetric(catalogue, PROTOCOL).update(embeddings[:1], torch.tensor(index))


def test_what_is_no_index_or_no_embedding_is_refused() -> None:
    embeddings, catalogue = made.small(4)
    metric = ReIDMetric(catalogue, PROTOCOL)
    rows = torch.arange(4)
    for index in (torch.ones(len(catalogue), dtype=torch.bool), rows.float(), rows[None]):
        with pytest.raises(UserError, match="index should be row numbers"):
            metric.update(embeddings[:4], index)
    for wrong, sentence in (
        (embeddings[:3], "Embeddings of 4 images should be one row each"),
        (embeddings[:4, :0], "0 wide"),
        (embeddings[:4].to(torch.complex64), "floating-point"),
        (embeddings[:4].to(torch.int8), "floating-point"),
    ):
        with pytest.raises(UserError, match=sentence):
            metric.update(wrong, rows)
    metric.update(embeddings[:4], rows)
    with pytest.raises(UserError, match="16 wide so far, and are 15 wide now"):
        metric.update(embeddings[:4, 1:], rows)


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
    mp.start_processes(one_rank, args=(tmp_path,), nprocs=2, start_method="fork")
    for name in shares_of_two_ranks():
        for rank in range(2):
            assert torch.load(tmp_path / f"{name} {rank}.pt") == expected()
