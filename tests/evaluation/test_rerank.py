"""Re-ranking against its definition, one image at a time."""

import numpy as np
import pytest
import torch
from evaluation import made
from evaluation.definition import k_reciprocal

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import KReciprocal, MutualNeighbours, RegDBProtocol, SYSUProtocol, evaluate, rerank
from mpanet_pl.evaluation.rerank import RERANKERS, squared_distances


def clustered(
    seed: int, queries: int = 70, gallery: int = 50, identities: int = 12
) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(identities, 16, generator=draw).double()
    who = torch.randint(0, identities, (queries + gallery,), generator=draw)
    embeddings = centres[who] + 0.7 * torch.randn(queries + gallery, 16, generator=draw).double()
    return embeddings[:queries], embeddings[queries:]


@pytest.mark.parametrize("neighbours", ["all", "queries"])
@pytest.mark.parametrize("at_once", [1, 2**21])
@pytest.mark.parametrize("k1", [20, 7])
def test_k_reciprocal_equals_its_definition(
    neighbours: str, at_once: int, k1: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerank, "AT_ONCE", at_once)
    for seed in range(3):
        queries, gallery = clustered(seed)
        distances = squared_distances(torch.cat([queries, gallery]))
        distances /= distances.amax(1, keepdim=True)
        expected = k_reciprocal(distances.numpy(), len(queries), neighbours == "queries", k1=k1)
        similarity = KReciprocal(k1=k1, neighbours=neighbours)(queries, gallery)
        np.testing.assert_allclose(-similarity.numpy(), expected, atol=1e-12)


def test_fewer_images_than_neighbours_and_equal_images_stay_numbers() -> None:
    for reranker in (KReciprocal(), KReciprocal(neighbours="queries"), MutualNeighbours()):
        assert reranker(torch.eye(3), torch.eye(3)[:2]).isfinite().all()
        assert reranker(torch.ones(30, 4), torch.ones(20, 4)).isfinite().all()


def test_mutual_neighbours_average_embeddings() -> None:
    queries, gallery = torch.tensor([[0.0], [1.0]]), torch.tensor([[10.0], [14.0]])
    assert MutualNeighbours(k=1)(queries, gallery).tolist() == [[-11.5, -11.5], [-11.5, -11.5]]


def test_the_row_without_it_stays_and_stands_before_it() -> None:
    embeddings, catalogue = made.small(4)
    plain = evaluate(embeddings, catalogue, SYSUProtocol(trials=2))
    both = evaluate(embeddings, catalogue, SYSUProtocol(trials=2), rerank=KReciprocal(k1=4, k2=2))
    assert list(both)[:4] == ["all/single", "all/single + k-reciprocal", "all/multi", "all/multi + k-reciprocal"]
    for setting, score in plain.items():
        assert both[setting].trials == score.trials
    measured = both["all/multi + k-reciprocal"].measured
    assert measured.endswith(
        "k-reciprocal re-ranking (k1 4, k2 2, distance weight 0.3); SYSUProtocol version 1; "
        "13 of 25 queries have a true match"
    )


@pytest.mark.parametrize("reranker", [make() for make in RERANKERS.values()], ids=RERANKERS)
def test_re_ranking_helps_where_neighbours_tell(reranker: rerank.Reranker) -> None:
    embeddings, catalogue = made.regdb(5, 48, identities=40, per=6, noise=1.0)
    scores = evaluate(embeddings, catalogue, RegDBProtocol(), rerank=reranker)
    assert scores[f"visible_to_thermal + {reranker.name}"].mAP > scores["visible_to_thermal"].mAP + 5


def test_impossible_choices_are_refused() -> None:
    with pytest.raises(UserError, match="k1=3, k2=6"):
        KReciprocal(k1=3)
    with pytest.raises(UserError, match="k=0"):
        MutualNeighbours(k=0)
