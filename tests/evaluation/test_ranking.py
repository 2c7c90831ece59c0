"""Ranks from similarities, against the definition."""

import random

import pytest
import torch
from evaluation.definition import evaluate_query

from mpanet_pl.evaluation.ranking import REMOVED, Gallery, cumulative_matches, rank
from mpanet_pl.interfaces import CMC


@pytest.mark.parametrize("cmc", ["deduplicated", "plain"])
@pytest.mark.parametrize("seed", range(40))
def test_ranks_equal_the_definition_with_ties_removals_and_strangers(seed: int, cmc: CMC) -> None:
    draw = random.Random(seed)
    queries, images, identities = draw.randint(1, 12), draw.randint(1, 40), draw.randint(1, 8)
    similarity = torch.tensor([[draw.randint(-3, 3) for _ in range(images)] for _ in range(queries)]).float()
    similarity[torch.rand(queries, images, generator=torch.Generator().manual_seed(seed)) < 0.2] = REMOVED
    who_asks = [draw.randint(0, identities) for _ in range(queries)]  # some are in no gallery
    who_is_there = [draw.randint(1, identities) * 3 for _ in range(images)]
    who_asks = [identity * 3 for identity in who_asks]

    expected = []
    for row, identity in zip(similarity.tolist(), who_asks, strict=True):
        entries = [entry for entry in zip(row, who_is_there, strict=True) if entry[0] > REMOVED]
        expected.append(evaluate_query(entries, identity, cmc) or (0, 0, 0))
    ranks = rank(similarity, torch.tensor(who_asks), Gallery(torch.tensor(who_is_there)), cmc)

    assert ranks.first.tolist() == [first for first, _, _ in expected]
    assert ranks.average_precision.tolist() == pytest.approx([ap for _, ap, _ in expected], abs=1e-14)
    assert ranks.inverse_negative_penalty.tolist() == [inp for _, _, inp in expected]


def test_of_equal_similarities_the_wrong_image_ranks_first() -> None:
    ranks = rank(torch.zeros(1, 4), torch.tensor([7]), Gallery(torch.tensor([7, 1, 2, 2])))
    assert ranks.first.item() == 3
    assert ranks.average_precision.item() == 1 / 4


def test_the_order_of_the_gallery_changes_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    similarity = torch.randint(0, 5, (20, 60), generator=draw).float()
    who_asks, who_is_there = torch.randint(0, 9, (20,), generator=draw), torch.randint(0, 9, (60,), generator=draw)
    order = torch.randperm(60, generator=draw)
    for one, other in zip(
        rank(similarity, who_asks, Gallery(who_is_there)),
        rank(similarity[:, order], who_asks, Gallery(who_is_there[order])),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_the_curve_rises_to_one_and_stays() -> None:
    curve = cumulative_matches(torch.tensor([1, 2, 2, 4]), 6)
    assert curve.tolist() == [0.25, 0.75, 0.75, 1, 1, 1]


@pytest.mark.parametrize("together", [False, True])
def test_the_best_of_each_identity_wherever_its_columns_stand(together: bool) -> None:
    identities = torch.randint(0, 7, (40,), generator=torch.Generator().manual_seed(0)) * 5
    identities = identities.sort().values if together else identities
    gallery = Gallery(identities)
    assert (gallery.starts is not None) == together
    similarity = torch.randn(6, 40, generator=torch.Generator().manual_seed(1))
    expected = [[float(row[identities == one].max()) for one in gallery.known] for row in similarity]
    torch.testing.assert_close(gallery.best_of_each(similarity), torch.tensor(expected), rtol=0, atol=0)
