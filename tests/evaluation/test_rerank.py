"""Re-ranking against its definition, one image at a time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation import made
from evaluation.definition import affinity, k_reciprocal
from golden import recipe

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import (
    Affinity,
    KReciprocal,
    MutualNeighbours,
    RegDBProtocol,
    RetrievalProtocol,
    Search,
    SYSUProtocol,
    evaluate,
    rerank,
    rows_of,
)
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
    KReciprocal(k1=3, k2=3)
    with pytest.raises(UserError, match="k=0"):
        MutualNeighbours(k=0)


AIM = Path(recipe.HERE) / "beyond/aim"
CASES = [case for case in json.loads(AIM.with_suffix(".json").read_text())["cases"] if "dist" in case]


def released(*names: str) -> list[torch.Tensor]:
    with np.load(AIM.with_suffix(".npz")) as stored:
        return [torch.from_numpy(stored[name]) for name in names]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("at_once", [1, 2**21])
def test_affinity_equals_the_released_code(case: dict[str, Any], at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerank, "SIMILARITIES_AT_ONCE", at_once)
    queries, gallery, distances = released(case["query"], case["gallery"], case["dist"])
    similarity = Affinity(case["k1"], case["k2"])(queries, gallery)
    torch.testing.assert_close(-similarity, distances, rtol=0, atol=1e-13)


def test_affinity_of_more_neighbours_than_images_takes_all() -> None:
    queries, gallery, distances = released("query_small_gallery", "gallery_small_gallery", "dist_small_gallery_clamped")
    torch.testing.assert_close(-Affinity(5, 2)(queries, gallery), distances, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (4, 1), (6, 3), (3, 9), (200, 2)])
def test_affinity_equals_its_definition(k1: int, k2: int) -> None:
    queries, gallery = clustered(k1)
    expected = affinity(queries.numpy(), gallery.numpy(), k1, k2)
    np.testing.assert_allclose(-Affinity(k1, k2)(queries, gallery).numpy(), expected, atol=1e-12)


def test_affinity_asks_no_other_query() -> None:
    queries, gallery = clustered(0)
    described = Affinity(5, 2).of(gallery)
    alone = torch.cat([described(query[None]) for query in queries])
    torch.testing.assert_close(alone, Affinity(5, 2)(queries, gallery), rtol=0, atol=1e-14)


def test_affinity_of_embeddings_far_off_is_that_of_their_directions() -> None:
    """Where the protocol itself compares distances, for which the origin may be moved."""
    embeddings, catalogue = made.small(4)
    embeddings = embeddings + 3 * torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(0)) + 20
    by_distance = evaluate(embeddings, catalogue, RegDBProtocol(), rerank=Affinity(5, 2))
    by_cosine = evaluate(embeddings, catalogue, RegDBProtocol(normalise=True), rerank=Affinity(5, 2))
    setting = "visible_to_thermal + affinity (5, 2)"
    assert by_distance[setting].trials == by_cosine[setting].trials
    assert "affinity re-ranking of cosine similarities (k1 5, k2 2)" in by_distance[setting].measured


class AtOnePlace(RetrievalProtocol):
    """The golden case's: cameras 2 and 3 are one."""

    draw = "as given"

    def searches(self, catalogue: Catalogue) -> list[Search]:
        return [Search(rows_of(catalogue, infrared=True), {"all": [rows_of(catalogue, infrared=False)]})]

    def ignored(self, queries: Catalogue, gallery: Catalogue) -> torch.Tensor:
        return queries.cameras.where(queries.cameras != 3, 2)[:, None] == gallery.cameras


@pytest.mark.parametrize(("k1", "k2"), [(4, 1), (8, 2), (30, 6)])
def test_affinity_scores_as_the_released_evaluation(k1: int, k2: int) -> None:
    features = torch.cat(released("eval_query", "eval_gallery"))
    rows = []
    for side in ("query", "gallery"):
        people, cameras = released(f"eval_{side}_id", f"eval_{side}_cam")
        pairs = enumerate(zip(people.tolist(), cameras.tolist(), strict=True))
        rows += [(f"{side}/{number:03}", *who, side == "query") for number, who in pairs]
    scores = evaluate(features, Catalogue.from_rows(rows), AtOnePlace(), rerank=Affinity(k1, k2))
    results = json.loads(AIM.with_suffix(".json").read_text())["evaluation"]["results"]
    for setting, expected in (("all", "cosine"), (f"all + affinity ({k1}, {k2})", f"k1_{k1}_k2_{k2}")):
        assert scores[setting].mAP == pytest.approx(results[expected]["mAP"], abs=1e-9)
        curve = scores[setting].cmc.tolist()
        assert curve == pytest.approx(results[expected]["cmc"][: len(curve)], abs=1e-9)


@pytest.mark.parametrize("ks", [{"k1": 0}, {"k2": 0}])
def test_affinity_needs_neighbours(ks: dict[str, int]) -> None:
    with pytest.raises(UserError, match="at least 1"):
        RERANKERS["affinity"](**ks)
