"""Intervals against a slow loop, and by the laws that they keep."""

import math
import random
from statistics import quantiles

import pytest
import torch
from evaluation import made

from mpanet_pl.evaluation import FolderProtocol, SYSUProtocol, evaluate
from mpanet_pl.evaluation.intervals import LEAST_ERROR, draws, ratio_interval
from mpanet_pl.evaluation.outcomes import NAMES, by_person


def queries(people: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Made sums (I, 1) and sizes (I,) of people with a few queries each."""
    draw = random.Random(seed)
    sizes = [draw.randint(1, 9) for _ in range(people)]
    return torch.tensor([[draw.uniform(0, size)] for size in sizes]).double(), torch.tensor(sizes).double()


def by_hand(sums: list[float], sizes: list[float], replicates: int) -> tuple[float, float]:
    """The studentised bootstrap as it is defined, one draw after another."""
    people, margin = len(sums), 0.5 / len(sums)

    def share_and_error(chosen: list[int]) -> tuple[float, float]:
        size = sum(sizes[i] for i in chosen)
        share = sum(sums[i] for i in chosen) / size
        residuals = [sums[i] - share * sizes[i] for i in chosen]
        return share, math.sqrt(sum(r * r for r in residuals) * people / (people - 1)) / size

    def odds(share: float) -> float:
        return math.log((share + margin) / (1 - share + margin))

    def slope(share: float) -> float:
        return 1 / (share + margin) + 1 / (1 - share + margin)

    share, error = share_and_error(list(range(people)))
    steps = []
    for weights in torch.cat(list(draws(people, replicates, 0))).int().tolist():
        again, its_error = share_and_error([i for i, times in enumerate(weights) for _ in range(times)])
        steps.append((odds(again) - odds(share)) / (max(its_error, LEAST_ERROR * error) * slope(again)))
    below, *_, above = quantiles(steps, n=40, method="inclusive")
    ends = []
    for step in (above, below):
        likely = 1 / (1 + math.exp(-(odds(share) - step * error * slope(share))))
        ends.append(min(1.0, max(0.0, likely * (1 + 2 * margin) - margin)))
    return ends[0], ends[1]


@pytest.mark.parametrize("people", [5, 12, 40])
def test_the_interval_is_the_slow_loops(people: int) -> None:
    sums, sizes = queries(people, people)
    low, high = ratio_interval(sums, sizes, replicates=400)
    assert (low.item(), high.item()) == pytest.approx(by_hand(sums[:, 0].tolist(), sizes.tolist(), 400), abs=1e-9)


def test_draws_come_in_blocks_and_each_holds_as_many_as_there_are_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpanet_pl.evaluation.intervals.DRAWN_AT_ONCE", 7 * 20)
    blocks = list(draws(7, 50, seed=3))
    assert [len(block) for block in blocks] == [20, 20, 10]
    assert all((block.sum(1) == 7).all() for block in blocks)
    assert torch.equal(torch.cat(blocks), torch.cat(list(draws(7, 50, seed=3))))
    assert not torch.equal(torch.cat(blocks), torch.cat(list(draws(7, 50, seed=4))))


def test_a_person_with_all_queries_twice_is_as_good_as_with_each_once() -> None:
    sums, sizes = queries(20, 1)
    once, twice = ratio_interval(sums, sizes), ratio_interval(2 * sums, 2 * sizes)
    assert torch.allclose(torch.stack(once), torch.stack(twice))


def test_four_times_the_people_halve_the_interval() -> None:
    sums, sizes = queries(100, 2)
    low, high = ratio_interval(sums, sizes)
    lower, higher = ratio_interval(sums.repeat(4, 1), sizes.repeat(4))
    assert (high - low) / (higher - lower) == pytest.approx(2, abs=0.15)


def test_shares_and_their_complements_mirror_each_other_nearly() -> None:
    sums, sizes = queries(60, 5)
    low, high = ratio_interval(sums, sizes)
    mirrored_low, mirrored_high = ratio_interval(sizes[:, None] - sums, sizes)
    assert torch.allclose(torch.stack([low, high]), 1 - torch.stack([mirrored_high, mirrored_low]), atol=1e-9)


def test_where_all_are_found_so_many_may_be_missing_as_their_number_cannot_tell() -> None:
    low, high = ratio_interval(torch.ones(10, 1), torch.ones(10))
    assert (low.item(), high.item()) == pytest.approx((0.025**0.1, 1.0))  # the exact bound of ten of ten
    low, high = ratio_interval(torch.zeros(10, 1), torch.ones(10))
    assert (low.item(), high.item()) == pytest.approx((0.0, 1 - 0.025**0.1))
    low, high = ratio_interval(torch.ones(1, 1) / 2, torch.ones(1))
    assert low.item() < 0.02
    assert high.item() > 0.98


def test_scores_carry_intervals_that_hold_the_score_and_never_change() -> None:
    embeddings, catalogue = made.small(3)
    one, again = (evaluate(embeddings, catalogue, SYSUProtocol(trials=3)) for _ in range(2))
    for setting, score in one.items():
        assert list(score.ci) == list(NAMES)
        assert score.ci == again[setting].ci
        for name, (low, high) in score.ci.items():
            assert 0 <= low <= getattr(score, name) + 1e-9
            assert getattr(score, name) - 1e-9 <= high <= 100


@pytest.mark.parametrize(
    "protocol", [SYSUProtocol(trials=3), FolderProtocol(same_camera=True)], ids=lambda protocol: type(protocol).__name__
)
def test_what_people_add_is_the_score(protocol: SYSUProtocol | FolderProtocol) -> None:
    """Trials may have different queries without a match, which are left out of each one's own mean."""
    embeddings, catalogue = made.small(5)
    for score in evaluate(embeddings, catalogue, protocol).values():
        assert score.outcomes is not None
        people = by_person(score.outcomes)
        assert people.sizes.sum().item() == pytest.approx(1)
        sums = dict(zip(NAMES, (100 * people.sums.sum(0)).tolist(), strict=True))
        assert sums == pytest.approx({name: getattr(score, name) for name in NAMES})


def test_intervals_cover_in_small() -> None:
    """Of 300 worlds of 60 people with unlike numbers of queries and unlike chances, 95 % hold the truth, or nearly."""
    draw = torch.Generator().manual_seed(0)
    held, worlds, people = 0, 300, 60
    chances = torch.rand(200_000, generator=draw).double() ** 0.5  # of a person's queries to be right: mean 2/3
    truth = chances.mean()
    for _ in range(worlds):
        chance = chances[torch.randint(len(chances), (people,), generator=draw)]
        sizes = torch.randint(1, 20, (people,), generator=draw).double()
        low, high = ratio_interval(torch.binomial(sizes, chance, generator=draw)[:, None], sizes, replicates=300)
        held += int(low <= truth <= high)
    assert 0.92 <= held / worlds <= 0.98
