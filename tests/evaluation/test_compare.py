"""Paired comparisons: against all flips there are, against Holm's definition, and by laws."""

from itertools import product

import pytest
import torch

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.compare import Answers, compare, holm, sign_flip
from mpanet_pl.evaluation.intervals import difference_interval
from mpanet_pl.evaluation.outcomes import NAMES, Outcomes

R1 = NAMES.index("r1")
PEOPLE, EACH = 40, 6
PATHS = [f"cam3/{person:04d}/{number}.jpg" for person in range(PEOPLE) for number in range(EACH)]


def answers(seed: int, chance: float, people: int = PEOPLE, start: int = 0) -> Answers:
    """Queries that are found first with a chance that each person shifts."""
    draw = torch.Generator().manual_seed(seed)
    of_people = torch.rand(PEOPLE, generator=torch.Generator().manual_seed(99)) * 0.4 - 0.2 + chance
    rows = torch.arange(start * EACH, (start + people) * EACH)
    found = torch.rand(len(PATHS), generator=draw)[rows] < of_people.repeat_interleave(EACH)[rows]
    first = torch.where(found, 1, 7)[None]
    return Answers(Outcomes(rows, rows // EACH, first, 1 / first.double(), 1 / first.double()), PATHS)


def shuffled(one: Answers, seed: int = 0) -> Answers:
    order = torch.randperm(len(one.outcomes.queries), generator=torch.Generator().manual_seed(seed))
    return one._replace(outcomes=one.outcomes.of(order))


def test_equal_runs_differ_by_nothing() -> None:
    difference = compare([answers(1, 0.5)], [answers(1, 0.5)])
    assert difference.mean.abs().max() == 0
    assert (difference.low <= 0).all()
    assert (difference.high >= 0).all()
    assert (difference.p == 1).all()
    assert (difference.people, difference.queries, difference.of_runs) == (PEOPLE, len(PATHS), False)


def test_what_is_better_is_told_and_the_other_way_round_mirrors_it() -> None:
    worse, better = answers(1, 0.4), answers(2, 0.7)
    difference, mirrored = compare([worse], [better]), compare([better], [worse])
    assert difference.mean[R1].item() == pytest.approx(
        100 * ((better.outcomes.first == 1).double().mean() - (worse.outcomes.first == 1).double().mean()).item()
    )
    assert difference.low[R1] > 0
    assert difference.p[R1] < 0.001
    assert torch.allclose(difference.mean, -mirrored.mean)
    assert torch.allclose(difference.low, -mirrored.high, atol=1e-9)
    assert torch.equal(difference.p, mirrored.p)


def test_the_order_of_queries_does_not_matter() -> None:
    one, other = answers(1, 0.5), answers(2, 0.55)
    for straight, mixed in zip(
        compare([one], [other])[:4], compare([shuffled(one)], [shuffled(other, 1)])[:4], strict=True
    ):
        assert torch.allclose(straight, mixed, atol=1e-12)


def test_flipping_at_random_nears_all_flips() -> None:
    sums = torch.tensor([3.0, -1.0, 2.0, 0.5, 0.0, 2.5, -0.5, 1.0]).double()[:, None]
    totals = [
        abs(sum(s * v for s, v in zip(signs, sums[:, 0].tolist(), strict=True))) for signs in product((1, -1), repeat=8)
    ]
    exact = sum(total >= sums.sum().abs().item() - 1e-12 for total in totals) / len(totals)
    assert sign_flip(sums).item() == pytest.approx(exact, abs=0.01)


def test_a_persons_queries_are_flipped_together() -> None:
    """All of the difference is one person's, with many queries: nothing can be told, though queries alone would."""
    one, other = answers(1, 0.5), answers(1, 0.5)
    other.outcomes.first[:, other.outcomes.identities == 3] = 1
    one.outcomes.first[:, one.outcomes.identities == 3] = 9
    assert compare([one], [other]).p[R1] > 0.5


@pytest.mark.parametrize("p", [[0.2], [0.01, 0.04, 0.03], [0.5, 0.9, 0.001, 0.02], [1.0, 1.0]])
def test_holm_rejects_what_stepping_down_rejects(p: list[float]) -> None:
    for level in (0.001, 0.0041, 0.02, 0.05, 0.061, 0.2, 0.6, 0.95):
        rejected = [False] * len(p)
        for step, number in enumerate(sorted(range(len(p)), key=p.__getitem__)):
            if p[number] > level / (len(p) - step):
                break
            rejected[number] = True
        assert [adjusted <= level for adjusted in holm(p)] == rejected


def test_runs_that_lie_apart_widen_the_interval() -> None:
    alone = compare([answers(1, 0.5)], [answers(2, 0.6)])
    steady = compare([answers(seed, 0.5) for seed in (1, 2, 3, 4)], [answers(seed, 0.6) for seed in (5, 6, 7, 8)])
    apart = compare(
        [answers(seed, 0.5 + shift) for seed, shift in enumerate((-0.2, 0.2, -0.1, 0.1))],
        [answers(seed, 0.6 + shift) for seed, shift in enumerate((-0.2, 0.2, -0.1, 0.1), 4)],
    )
    width = [(one.high - one.low)[R1].item() for one in (alone, steady, apart)]
    assert width[1] < width[0] < width[2]
    assert steady.of_runs
    assert steady.p[R1] < 0.01 < apart.p[R1]


def test_trials_are_paired_split_by_split() -> None:
    halves = [(0, 20), (10, 20), (20, 20)]
    first = [answers(seed, 0.5, people, start) for seed, (start, people) in enumerate(halves)]
    second = [answers(9 - seed, 0.7, people, start) for seed, (start, people) in enumerate(halves)]
    difference = compare(first, [shuffled(second[place]) for place in (2, 0, 1)])
    straight = [compare([one], [other]).mean for one, other in zip(first, second, strict=True)]
    assert torch.allclose(difference.mean, torch.stack(straight).mean(0))
    assert difference.people == 40
    with pytest.raises(UserError, match=r"a trial or a split of one is missing|share"):
        compare(first, second[:2])


def test_a_network_is_compared_with_itself() -> None:
    """Runs that lie far apart, and a gain that is nearly the same in each."""
    plain = [answers(seed, chance)._replace(network=str(seed)) for seed, chance in ((1, 0.3), (2, 0.5), (3, 0.7))]
    better = [answers(seed, chance)._replace(network=str(seed)) for seed, chance in ((3, 0.8), (1, 0.4), (2, 0.6))]
    paired = compare(plain, better)
    apart = compare([one._replace(network=None) for one in plain], better)
    assert torch.allclose(paired.mean, apart.mean)
    assert (paired.high - paired.low)[R1] < 0.25 * (apart.high - apart.low)[R1]
    assert paired.low[R1] > 0 > apart.low[R1]
    others = [better[0], better[1], better[2]._replace(network="4")]
    assert torch.allclose(compare(plain, others).low, apart.low)
    alone = compare(plain[:1], better[1:2])
    assert not alone.of_runs
    assert torch.equal(alone.low, compare(plain[:1], [better[1]._replace(network="4")]).low)


def test_other_queries_people_or_galleries_are_refused() -> None:
    one = answers(1, 0.5)
    with pytest.raises(UserError, match="of 240 and 120 they share 120"):
        compare([one], [answers(1, 0.5, people=20)])
    with pytest.raises(UserError, match="show other people"):
        compare([one], [Answers(one.outcomes._replace(identities=one.outcomes.identities + 1), PATHS)])
    with pytest.raises(UserError, match="other galleries"):
        compare([one], [Answers(one.outcomes._replace(first=one.outcomes.first.clone().fill_(0)), PATHS)])
    with pytest.raises(UserError, match="one person"):
        compare([answers(1, 0.5, people=1)], [answers(2, 0.5, people=1)])


def test_the_test_is_as_often_wrong_as_it_says() -> None:
    """Of 400 pairs of one method's runs about 5 % are told apart, and as many intervals miss 0."""
    draw, told, missed = torch.Generator().manual_seed(0), 0, 0
    for seed in range(400):
        sizes = torch.randint(1, 9, (30,), generator=draw).double()
        runs = [torch.binomial(sizes, torch.full_like(sizes, 0.6), generator=draw) for _ in range(2)]
        sums = (runs[1] - runs[0])[:, None]
        low, high = difference_interval(sums, sizes, replicates=300)
        told += int(sign_flip(sums, flips=499, seed=seed) <= 0.05)
        missed += int(not low <= 0 <= high)
    assert 0.02 <= told / 400 <= 0.085
    assert 0.02 <= missed / 400 <= 0.085
