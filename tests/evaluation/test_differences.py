"""Paired comparisons: against all flips there are, against Holm's definition, and by laws."""

import math
from itertools import product

import pytest
import torch
from scipy import stats

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.differences import compare, flipped, holm, two_levels
from mpanet_pl.evaluation.digests import Met
from mpanet_pl.evaluation.intervals import share_and_variance
from mpanet_pl.evaluation.outcomes import NAMES, Outcomes, People
from mpanet_pl.evaluation.pairing import Answers

R1 = NAMES.index("r1")
PEOPLE, EACH = 40, 6
RECIPROCALS = ("average_precision", "inverse_negative_penalty")
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


def test_student_scaled_by_flips_tells_as_all_flips_do() -> None:
    """Eight people, all 256 flips: p of the largest statistic is what half of its ties and all beyond make up."""
    sums = torch.tensor([3.0, 1.0, 2.0, 0.5, 1.5, 2.5, 0.7, 1.0]).double()[:, None]
    count, sizes = len(sums), torch.full((8,), 1 / 8).double()
    factor = flipped(People(torch.arange(8), sums, sizes), flips=20_000)
    share, variance = sums.sum().item(), (sums - sums.mean()).square().sum().item() * count / (count - 1)
    p = 2 * stats.t.sf(share / math.sqrt(factor.item() * (variance + share**2 / count**2)), count - 1)
    steps = []
    for signs in product((1, -1), repeat=8):
        total = sum(s * v for s, v in zip(signs, sums[:, 0].tolist(), strict=True))
        spread = sum((s * v - total / 8) ** 2 for s, v in zip(signs, sums[:, 0].tolist(), strict=True)) * 8 / 7
        steps.append(abs(total) / math.sqrt(spread + total**2 / 64))
    reached = max(steps)
    exact = sum(1.0 if step > reached + 1e-9 else 0.5 if step > reached - 1e-9 else 0.0 for step in steps) / len(steps)
    assert p == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize(("people", "told"), [(1, False), (3, False), (4, False), (5, True), (7, True)])
def test_so_few_who_differ_tell_as_coins_do(people: int, told: bool) -> None:
    """All who differ favour one side: a chance of 2 in 2^n, of which the tie counts half."""
    one, other = answers(1, 0.5), answers(1, 0.5)
    for person in range(people):
        one.outcomes.first[:, one.outcomes.identities == person] = 9
        other.outcomes.first[:, other.outcomes.identities == person] = 1
    difference = compare([one], [other])
    assert (difference.p[R1].item() < 0.05) == told
    assert difference.p[R1].item() == pytest.approx(2.0**-people, abs=0.02)
    assert (difference.low[R1].item() > 0) == told


def test_a_runs_people_are_counted_once() -> None:
    """Runs that differ by their people's answers alone add nothing to the variance among people."""
    draw = torch.Generator().manual_seed(3)
    sizes = torch.full((400,), 1 / 400).double()

    def runs(spread: float) -> list[People]:
        shifts = spread * torch.randn(4, 1, 1, generator=draw, dtype=torch.float64)
        sums = (0.5 + 0.3 * torch.randn(4, 400, 6, generator=draw, dtype=torch.float64) + shifts) / 400
        return [People(torch.arange(400), one, sizes) for one in sums]

    among = torch.full((6,), 2 * 0.09 / 400 / 4).double()
    alone, apart = two_levels(among, [runs(0), runs(0)], 400), two_levels(among, [runs(0.1), runs(0.1)], 400)
    assert alone.variance.mean() < 1.6 * among.mean()  # twice it, were person by run counted again
    assert apart.variance.mean() > 5 * among.mean()
    assert alone.freedom.mean() > 2 * apart.freedom.mean()
    assert (apart.freedom < 9).all()  # four runs a side have 6


def test_variance_over_runs_is_the_samples() -> None:
    """Divided by one less than the runs: three runs a side at known scores, whose people all answer alike."""
    sizes = torch.full((50,), 1 / 50).double()

    def runs(*scores: float) -> list[People]:
        return [People(torch.arange(50), torch.full((50, 6), score / 50).double(), sizes) for score in scores]

    spread = two_levels(torch.zeros(6).double(), [runs(0.4, 0.5, 0.6), runs(0.5, 0.5, 0.8)], 50)
    assert spread.variance.tolist() == pytest.approx([(0.01 + 0.03) / 2 * (1 / 3 + 1 / 3)] * 6)
    assert spread.freedom.tolist() == pytest.approx([4] * 6)
    lone = two_levels(torch.zeros(6).double(), [runs(0.4, 0.5, 0.6), runs(0.5)], 50)
    assert lone.variance.tolist() == pytest.approx([0.01 * (1 / 3 + 1)] * 6)
    assert lone.freedom.tolist() == pytest.approx([2] * 6)


def test_of_one_run_a_side_the_people_less_one_are_free() -> None:
    """Of several runs Satterthwaite adds them up: variances to the square over their degrees of freedom."""
    first, second = answers(0, 0.5), answers(1, 0.5)
    assert compare([first], [second]).freedom.tolist() == [PEOPLE - 1] * len(NAMES)
    sizes, among = torch.full((50,), 1 / 50).double(), torch.tensor([0.02]).double()
    runs = [[People(torch.arange(50), torch.full((50, 1), score / 50).double(), sizes) for score in (0.3, 0.5)]] * 2
    spread = two_levels(among, runs, 50)
    assert spread.variance.item() == pytest.approx(0.02 + 0.02)  # people's, and of runs' means: 0.02 / 2, twice
    assert spread.freedom.item() == pytest.approx(0.04**2 / (0.02**2 / 49 + 0.02**2 / 2))


def test_an_interval_and_its_p_agree() -> None:
    for seed in range(12):
        difference = compare([answers(seed, 0.5)], [answers(100 + seed, 0.5 + 0.01 * seed)])
        leaves_none_out = (difference.low > 0) | (difference.high < 0)
        assert torch.equal(leaves_none_out, difference.p < 0.05)


def test_not_worse_and_as_good_are_one_sided_tests_of_a_margin() -> None:
    difference = compare([answers(1, 0.5)], [answers(2, 0.52)])
    worse, better = difference.beyond(30.0)
    assert (worse < 0.01).all()
    assert (better < 0.01).all()
    freedom, error, mean = (float(one[R1]) for one in (difference.freedom, difference.error, difference.mean))
    worse, better = difference.beyond(2.0)
    assert worse[R1].item() == pytest.approx(stats.t.sf((mean + 2) / error, freedom))
    assert better[R1].item() == pytest.approx(stats.t.sf((2 - mean) / error, freedom))
    steps = stats.t.ppf(0.975, freedom) + stats.t.ppf(0.8, freedom)
    assert difference.tellable[R1].item() == pytest.approx(steps * error)


def test_what_runs_lie_apart_by_chance_keeps_its_degrees_of_freedom() -> None:
    """Where person by run explains all that runs lie apart, nothing is added; that few runs say so stays known."""
    sizes, draw = torch.full((50,), 1 / 50).double(), torch.Generator().manual_seed(5)
    noise = torch.randn(2, 50, 1, generator=draw).double()
    noise += torch.tensor([0.05, -0.05]).double()[:, None, None] - noise.mean(1, keepdim=True)  # scores 0.1 apart
    runs = [[People(torch.arange(50), (0.5 + one) / 50, sizes) for one in noise]] * 2
    spread = two_levels(torch.tensor([0.02]).double(), runs, 50)
    assert spread.variance.item() == pytest.approx(0.02)
    apart = 0.1**2 / 2  # of a side's runs; of both sides' means as much
    assert spread.freedom.item() == pytest.approx(0.02**2 / (0.02**2 / 49 + apart**2 / 2))


def test_a_difference_is_parted_into_people_runs_and_galleries() -> None:
    """Two trials' galleries are 30 and 10 points apart; runs of one side lie apart, of the other not."""
    one, more = answers(1, 0.5), answers(1, 0.5)
    trials = torch.stack([one.outcomes.first[0], one.outcomes.first[0]])
    better = trials.clone()
    better[0, :72], better[1, :24] = 1, 1  # 72 and 24 of 240 queries, some of which were found before
    both = [
        run._replace(outcomes=run.outcomes._replace(first=first, **dict.fromkeys(RECIPROCALS, 1 / first.double())))
        for run, first in ((one, trials), (more, better))
    ]
    found = compare(both[:1], both[1:])
    gains = [(of_trial == 1).double().mean() - (trials[0] == 1).double().mean() for of_trial in better]
    assert found.parts[2, R1].item() == pytest.approx(100 * abs(gains[0] - gains[1]) / 2)
    assert found.parts[0].square() + found.parts[1].square() == pytest.approx(
        (found.error.square() - (found.mean / PEOPLE).square()).numpy()
    )
    assert found.parts[1].max() == 0
    assert compare([one], [answers(2, 0.5)]).parts[2].max() == 0, "one gallery stays as it is"
    apart = compare([answers(1, 0.3), answers(2, 0.7)], [answers(3, 0.5), answers(4, 0.5)])
    assert apart.parts[1, R1] > apart.parts[0, R1]


@pytest.mark.parametrize("kind", ["networks", "recipes", "ways"])
def test_a_difference_says_what_it_is_about(kind: str) -> None:
    named = [answers(seed, 0.5)._replace(network=str(seed)) for seed in (1, 2, 3)]
    pairs = {"networks": (named[:1], named[1:2]), "recipes": (named[:1], named[1:]), "ways": (named[:2], named[1::-1])}
    assert compare(*pairs[kind]).about in (f"two {kind}", f"two test {kind}")


def test_a_persons_queries_are_flipped_together() -> None:
    """All of the difference is one person's, with many queries: nothing can be told, though queries alone would."""
    one, other = answers(1, 0.5), answers(1, 0.5)
    other.outcomes.first[:, other.outcomes.identities == 3] = 1
    one.outcomes.first[:, one.outcomes.identities == 3] = 9
    assert compare([one], [other]).p[R1] > 0.4


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
    """Of 300 pairs of one method's runs about 5 % are told apart."""
    draw, told = torch.Generator().manual_seed(0), 0
    for seed in range(300):
        sizes = torch.randint(1, 9, (30,), generator=draw).double()
        runs = [torch.binomial(sizes, torch.full_like(sizes, 0.6), generator=draw) for _ in range(2)]
        sums, sizes = (runs[1] - runs[0])[:, None] / sizes.sum(), sizes / sizes.sum()
        share, variance = share_and_variance(sums, sizes)
        factor = flipped(People(torch.arange(30), sums, sizes), flips=199, seed=seed)
        told += int(2 * stats.t.sf(abs(share.item()) / math.sqrt(factor * variance), 29) <= 0.05)
    assert 0.025 <= told / 300 <= 0.08


def test_digests_refuse_by_name() -> None:
    """Other galleries whose queries still have matches, other images under the same names, other people."""
    met = Met("q", "p", ("g1", "g2"))
    one = answers(1, 0.5)._replace(met=met, images="abc")
    compare([one], [answers(2, 0.5)._replace(met=met, images="abc")])
    compare([one], [answers(2, 0.5)])  # of an earlier release
    for other, why in (
        (Met("q", "p", ("g1", "g3")), "other galleries in trial 2"),
        (Met("q", "p", ("g1",)), "2 and 1 galleries"),
        (Met("q", "other", ("g1", "g2")), "other people"),
        (Met("other", "p", ("g1", "g2")), "not asked the same queries"),
    ):
        with pytest.raises(UserError, match=why):
            compare([one], [answers(2, 0.5)._replace(met=other, images="abc")])
    with pytest.raises(UserError, match="another world was drawn"):
        compare([one], [answers(2, 0.5)._replace(met=met, images="xyz")])
