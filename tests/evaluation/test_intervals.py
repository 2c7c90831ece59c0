"""Intervals against a slow loop, and by the laws that they keep."""

import math
import random

import pytest
import torch
from evaluation import made
from scipy import stats

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import FolderProtocol, SYSUProtocol, evaluate
from mpanet_pl.evaluation.intervals import ratio_interval, share_and_variance, share_interval
from mpanet_pl.evaluation.outcomes import NAMES, by_person


def queries(people: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Made sums (I, 1) and sizes (I,) of people with a few queries each."""
    draw = random.Random(seed)
    sizes = [draw.randint(1, 9) for _ in range(people)]
    return torch.tensor([[draw.uniform(0, size)] for size in sizes]).double(), torch.tensor(sizes).double()


def by_hand(sums: list[float], sizes: list[float]) -> tuple[float, float]:
    """The lowest lower end while people lose what they lost, one after another, the largest loss first; mirrored."""

    def lowest(sums: list[float]) -> float:
        order = sorted(range(len(sums)), key=lambda person: sums[person] - sizes[person])
        now, ends = list(sizes), []
        for person in order:
            now[person] = sums[person]
            ends.append(student(now, sizes)[0])
        return min(ends)

    return lowest(sums), 1 - lowest([size - found for found, size in zip(sums, sizes, strict=True)])


def student(sums: list[float], sizes: list[float]) -> tuple[float, float]:
    """Student's interval on the scale of log-odds with its exact limits, from the definitions, a number at a time."""
    people, size = len(sums), sum(sizes)
    share = sum(sums) / size
    error = math.sqrt(
        sum((s - share * n) ** 2 for s, n in zip(sums, sizes, strict=True)) / size**2 * people / (people - 1)
    )
    padding = 0.1 / people
    slope = 1 / (share + padding) + 1 / (1 - share + padding)

    def end(level: float, sign: int) -> float:
        odds = math.log((share + padding) / (1 - share + padding))
        odds += sign * stats.t.ppf(level, people - 1) * error * slope
        return min(1.0, max(0.0, (1 + 2 * padding) / (1 + math.exp(-odds)) - padding))

    found_all, one_lost = 0.025 ** (1 / people), stats.beta.ppf(0.025, people - 1, 2)
    low = end(0.95, -1) if end(0.95, -1) < 1 - found_all else max(end(0.975, -1), 1 - found_all)
    high = end(0.95, 1) if end(0.95, 1) > found_all else min(end(0.975, 1), found_all)
    return min(low, one_lost), max(high, 1 - one_lost)


@pytest.mark.parametrize("people", [5, 12, 40])
def test_the_interval_is_the_slow_loops(people: int) -> None:
    sums, sizes = queries(people, people)
    low, high = ratio_interval(sums, sizes)
    assert (low.item(), high.item()) == pytest.approx(by_hand(sums[:, 0].tolist(), sizes.tolist()), abs=1e-9)


def test_the_units_are_people_not_queries() -> None:
    """Sixty queries of twenty people who answer all alike tell as much as twenty queries."""
    found = (torch.arange(20) % 4 > 0).double()[:, None]
    of_people = ratio_interval(found, torch.ones(20))
    assert torch.allclose(torch.stack(of_people), torch.stack(ratio_interval(30 * found, 30 * torch.ones(20))))
    low, high = ratio_interval(found.repeat(30, 1), torch.ones(600))
    assert high - low < 0.3 * (of_people.high - of_people.low)


@pytest.mark.parametrize("people", [5, 20, 40, 100])
def test_intervals_never_rise_while_queries_are_lost(people: int) -> None:
    """Neither end rises: one query of one person after another, of half the people; or half the people, one by one."""
    sizes = torch.full((people,), 6.0).double()
    for order in (torch.arange(people // 2), torch.arange(people // 2).repeat_interleave(6)):
        sums, before = sizes[:, None].clone(), ratio_interval(sizes[:, None], sizes)
        bound = stats.beta.ppf(0.025, people - 1, 2)
        for person in order.tolist():
            sums[person] -= 1
            now = ratio_interval(sums, sizes)
            assert now.low <= bound + 1e-12
            assert now.low <= before.low + 1e-9
            assert now.high <= before.high + 1e-9
            before = now


def test_a_person_with_all_queries_twice_is_as_good_as_with_each_once() -> None:
    sums, sizes = queries(20, 1)
    once, twice = ratio_interval(sums, sizes), ratio_interval(2 * sums, 2 * sizes)
    assert torch.allclose(torch.stack(once), torch.stack(twice))


def test_four_times_the_people_halve_the_interval() -> None:
    sums, sizes = queries(100, 2)
    low, high = ratio_interval(sums, sizes)
    lower, higher = ratio_interval(sums.repeat(4, 1), sizes.repeat(4))
    assert (high - low) / (higher - lower) == pytest.approx(2, abs=0.1)


def test_shares_and_their_complements_mirror_each_other_nearly() -> None:
    sums, sizes = queries(60, 5)
    low, high = ratio_interval(sums, sizes)
    mirrored_low, mirrored_high = ratio_interval(sizes[:, None] - sums, sizes)
    assert torch.allclose(torch.stack([low, high]), 1 - torch.stack([mirrored_high, mirrored_low]), atol=1e-9)


def test_the_variance_of_a_ratio_is_its_definitions() -> None:
    draw = torch.Generator().manual_seed(0)
    sizes = torch.randint(1, 6, (7,), generator=draw).double()
    sums = sizes[:, None] * torch.rand(7, 2, generator=draw, dtype=torch.float64)
    share, variance = share_and_variance(sums, sizes)
    for score in range(2):
        ratio = sum(sums[:, score].tolist()) / sum(sizes.tolist())
        squares = sum(
            (own - ratio * size) ** 2 for own, size in zip(sums[:, score].tolist(), sizes.tolist(), strict=True)
        )
        assert share[score].item() == pytest.approx(ratio)
        assert variance[score].item() == pytest.approx(7 / 6 * squares / sum(sizes.tolist()) ** 2)


@pytest.mark.parametrize("people", [5, 40, 300])
def test_both_ends_over_runs_mirror_each_other(people: int) -> None:
    """Of a share and of what it leaves, with the same variance: low ends where high ones do, on either side of it."""
    share = torch.tensor([0.01, 0.2, 0.5, 0.8, 0.99]).double()
    variance, freedom = share * (1 - share) / people, torch.full((5,), people - 1.0).double()
    low, high = share_interval(share, variance, freedom, people)
    of_rest = share_interval(1 - share, variance, freedom, people)
    torch.testing.assert_close(high, 1 - of_rest.low)
    torch.testing.assert_close(low, 1 - of_rest.high)
    assert (low < share).all()
    assert (share < high).all()
    wider = share_interval(share, 4 * variance, freedom, people)
    assert (wider.high >= high).all()
    assert (wider.high - wider.low > high - low).all()


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


def test_intervals_over_other_units_than_people() -> None:
    """Of pairs of people, who answer alike here: wider than of people; of one unit alone there is none."""
    rows = [(f"c{side}/{person}.jpg", person, side, side == 2) for person in range(40) for side in (1, 2)]
    catalogue = Catalogue.from_rows(rows)
    pairs = catalogue.identities // 2
    own, wrong = torch.eye(42)[catalogue.identities], torch.eye(42)[41]
    lost = (pairs % 3 == 0) & catalogue.infrared
    scores = evaluate(torch.where(lost[:, None], wrong, own), catalogue, FolderProtocol())["infrared_to_visible"]
    assert scores.interval(catalogue.identities) == scores.ci
    (low, high), (wide_low, wide_high) = scores.ci["r1"], scores.interval(pairs)["r1"]
    assert wide_low < low < scores.r1 < high < wide_high
    with pytest.raises(UserError, match="at least two"):
        scores.interval(torch.zeros(len(catalogue), dtype=torch.int64))


def test_intervals_cover_in_small() -> None:
    """Of 300 worlds of 60 people with unlike numbers of queries and unlike chances, 95 % hold the truth, or nearly."""
    draw = torch.Generator().manual_seed(0)
    held, worlds, people = 0, 300, 60
    chances = torch.rand(200_000, generator=draw).double() ** 0.5  # of a person's queries to be right: mean 2/3
    truth = chances.mean()
    for _ in range(worlds):
        chance = chances[torch.randint(len(chances), (people,), generator=draw)]
        sizes = torch.randint(1, 20, (people,), generator=draw).double()
        low, high = ratio_interval(torch.binomial(sizes, chance, generator=draw)[:, None], sizes)
        held += int(low <= truth <= high)
    assert 0.92 <= held / worlds <= 0.98
