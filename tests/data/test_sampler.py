"""The batches' laws, on SYSU-MM01's own structure and on lopsided made-up ones."""

import json
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import recipe

from mpanet_pl.data import Catalogue
from mpanet_pl.data.draws import DRAWS
from mpanet_pl.data.sampler import EvaluationBatches, TrainingBatches
from mpanet_pl.errors import UserError


def catalogue_of(counts: list[tuple[int, int]]) -> Catalogue:
    """Identities with these numbers of visible and infrared images."""
    return Catalogue.from_rows(
        [
            (f"{'infrared' if infrared else 'visible'}/{identity}/{number}.jpg", identity, 1 + infrared, infrared)
            for identity, both in enumerate(counts)
            for infrared in (False, True)
            for number in range(both[infrared])
        ]
    )


def sysu_catalogue() -> Catalogue:
    people = [row for row in recipe.sysu_structure() if row["split"] in ("train", "val")]
    return catalogue_of(
        [
            (sum(row[f"cam{camera}"] for camera in (1, 2, 4, 5)), sum(row[f"cam{camera}"] for camera in (3, 6)))
            for row in people
        ]
    )


def batches_of(catalogue: Catalogue, p: int, k: int, **settings) -> TrainingBatches:
    return TrainingBatches(catalogue, identities_per_batch=p, images_per_identity=k, **settings)


GOLDEN = Path(__file__).parents[1] / "golden" / "methods"
LOPSIDED = [(9, 30), (30, 9), (4, 4), (1, 1), (1, 12), (12, 1), (3, 2), (16, 16), (5, 8)]


@pytest.fixture(scope="module")
def sysu() -> Catalogue:
    return sysu_catalogue()


def test_sysu_declares_as_many_batches_as_it_has(sysu):
    assert len(sysu) == 34_167
    for seed in range(5):
        batches = batches_of(sysu, 16, 8, seed=seed)
        assert 180 <= len(batches) <= 183
        for epoch in range(4):
            batches.set_epoch(epoch)
            assert len(list(batches)) == len(batches)


def test_sysu_draws_as_many_batches_as_the_release_was_measured_to(sysu):
    lengths = [len(batches_of(sysu, 16, 8, seed=seed)) for seed in range(40)]
    assert set(lengths) <= {180, 181, 182, 183}
    assert np.mean(lengths) == pytest.approx(182.2, abs=0.3)


def test_regdb_draws_as_many_batches_as_the_release_was_measured_to():
    regdb = catalogue_of([(10, 10)] * 206)
    lengths = [len(batches_of(regdb, 12, 10, seed=seed)) for seed in range(200)]
    assert set(lengths) <= {33, 34}
    assert np.mean(lengths) == pytest.approx(33.98, abs=0.03)


def test_an_epoch_of_sysu_is_drawn_in_no_time(sysu):
    batches = batches_of(sysu, 16, 8)
    assert len(batches)
    seconds = []
    for epoch in range(1, 6):
        began = time.process_time()
        batches.global_batches(epoch)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.2


@pytest.mark.parametrize("sampler", ["balanced", "uniform"])
@pytest.mark.parametrize("k", [2, 6])
def test_a_batch_is_p_identities_with_half_of_their_rows_infrared(sampler, k):
    catalogue = catalogue_of(LOPSIDED)
    for epoch in range(20):
        rows = torch.from_numpy(batches_of(catalogue, 4, k, sampler=sampler).global_batches(epoch))  # (n, 4 * k)
        owners = catalogue.identities[rows].view(-1, 4, k)
        assert (owners == owners[:, :, :1]).all()
        assert all(len(batch.unique()) == 4 for batch in owners)
        in_turn = torch.tensor([True, False]).repeat(2 * k)
        assert (catalogue.infrared[rows] == in_turn).all()


def test_balanced_uses_an_identity_as_often_as_its_scarcer_modality_allows():
    owners, infrared = rows_of(LOPSIDED)
    batches = DRAWS["balanced"](owners, infrared, 1, 6, np.random.default_rng(0))  # one identity a batch: all are used
    groups = np.bincount(owners[batches[:, 0]])
    assert groups.tolist() == [max(min(visible, thermal) // 3, 1) for visible, thermal in LOPSIDED]


def test_no_image_comes_twice_where_its_identity_has_enough():
    owners, infrared = rows_of(LOPSIDED)
    counts = np.array(LOPSIDED)[owners, infrared]  # images of its identity and modality, for each row
    for seed in range(20):
        used = DRAWS["balanced"](owners, infrared, 4, 6, np.random.default_rng(seed)).ravel()
        times = np.bincount(used, minlength=len(owners))
        assert times[counts >= 3].max() == 1
        assert times[counts < 3].max() > 1


def test_every_image_and_every_identity_have_the_same_chance():
    owners, infrared = rows_of([(6, 20)] * 10)
    first_batches, images = np.zeros(10), np.zeros(len(owners))
    for seed in range(2000):
        batches = DRAWS["balanced"](owners, infrared, 3, 4, np.random.default_rng(seed))
        first_batches[owners[batches[0, ::4]]] += 1
        images[batches[0]] += 1
    assert first_batches == pytest.approx(
        600, rel=0.15
    )  # of 2000 batches, three of ten identities each: 4 sigma are 12 %
    assert images[infrared == 0] == pytest.approx(2000 * 0.3 * 2 / 6, rel=0.3)
    assert images[infrared == 1] == pytest.approx(2000 * 0.3 * 2 / 20, rel=0.6)


def test_a_longer_draw_is_cut_and_a_shorter_one_continued():
    uneven = [(images, images) for images in range(2, 22)]
    owners, infrared = rows_of(uneven)
    batches = batches_of(catalogue_of(uneven), 4, 2, seed=9)
    drawn = {len(DRAWS["balanced"](owners, infrared, 4, 2, np.random.default_rng([9, e, 0]))) for e in range(50)}
    assert min(drawn) < len(batches) < max(drawn)  # so both happen in these epochs
    assert {len(batches.global_batches(epoch)) for epoch in range(50)} == {len(batches)}


def test_an_epoch_depends_on_seed_and_number_alone():
    catalogue = catalogue_of(LOPSIDED)
    batches, others = batches_of(catalogue, 4, 4, seed=3), batches_of(catalogue, 4, 4, seed=4)
    batches.set_epoch(7)
    seventh = list(batches)
    batches.set_epoch(8)
    assert list(batches) != seventh
    assert list(batches_of(catalogue, 4, 4, seed=3)) != seventh
    resumed = batches_of(catalogue, 4, 4, seed=3)
    resumed.set_epoch(7)
    assert list(resumed) == seventh
    others.set_epoch(7)
    assert list(others) != seventh
    assert list(batches_of(catalogue, 4, 4)) == list(batches_of(catalogue, 4, 4, seed=1))


@pytest.mark.parametrize("sampler", DRAWS)
@pytest.mark.parametrize("world", [2, 3, 6])
def test_ranks_share_the_batches_of_one(sampler, world):
    catalogue = catalogue_of([(5, 7)] * 13)
    whole = batches_of(catalogue, 6, 4, sampler=sampler)
    ranks = [batches_of(catalogue, 6, 4, sampler=sampler, rank=rank, world=world) for rank in range(world)]
    assert {len(rank) for rank in ranks} == {len(whole)}
    for of_one, *of_ranks in zip(whole, *ranks, strict=True):
        assert [row for rows in of_ranks for row in rows] == of_one


def test_uniform_shows_everyone_equally_often():
    catalogue = catalogue_of([(4, 4), (40, 40), (4, 30), (12, 12)])
    used = batches_of(catalogue, 2, 4, sampler="uniform").global_batches(0)
    times = catalogue.identities[torch.from_numpy(used)].flatten().bincount()
    assert times.tolist() == [4 * round((2 + 20 + 2 + 6) / 4)] * 4


def test_random_is_half_infrared_and_never_repeats(sysu):
    batches = batches_of(sysu, 16, 8, sampler="random")
    rows = batches.global_batches(3)
    assert len(batches) == 11_909 // 64
    assert len(np.unique(rows)) == rows.size
    assert (sysu.infrared[torch.from_numpy(rows)].sum(1) == 64).all()


SCHEDULES = {method: json.loads((GOLDEN / method / "schedule.json").read_text()) for method in ("agw", "deen")}
MEASURED = [
    pytest.param(measured, id=f"{method}-{dataset}")
    for method, schedule in SCHEDULES.items()
    for dataset, measured in schedule["sampler"].items()
]


@pytest.mark.parametrize("measured", MEASURED)
def test_drawn_with_replacement_an_epoch_is_as_long_as_the_release_was_measured(measured):
    visible, thermal = measured["visible"], measured["thermal"]
    people = 20
    counts = [(visible // people, thermal // people)] * (people - 1)
    counts.append((visible - sum(count for count, _ in counts), thermal - sum(count for _, count in counts)))
    p, k = measured["identities"], 2 * measured["per_modality"]
    assert len(batches_of(catalogue_of(counts), p, k, sampler="with_replacement")) == measured["batches"]


def test_with_replacement_every_identity_and_image_has_the_same_chance():
    """And both halves of a batch are of the same identities; images come again within one, identities do not."""
    owners, infrared = rows_of(LOPSIDED)
    drawn = np.concatenate(
        [DRAWS["with_replacement"](owners, infrared, 3, 8, np.random.default_rng(seed)) for seed in range(600)]
    )
    of = owners[drawn].reshape(-1, 3, 8)
    assert (of == of[:, :, :1]).all()
    assert (np.diff(np.sort(of[:, :, 0]), axis=1) > 0).all()
    assert (infrared[drawn] == np.tile([1, 0], 12)).all()
    times = np.bincount(drawn.ravel(), minlength=len(owners))
    counts = np.array(LOPSIDED)[owners, infrared]
    assert times * counts == pytest.approx(len(drawn) * 4 * 3 / len(LOPSIDED), rel=0.25)
    assert any(len(set(batch)) < len(batch) for batch in drawn.tolist())


def every_row(owners, infrared, p, k, rng):
    return rng.permutation(len(owners))[: len(owners) // (p * k) * p * k].reshape(-1, p * k)


def test_ones_own_draw_is_seeded_shared_and_resumed_like_ours():
    catalogue = catalogue_of([(6, 6)] * 6)
    whole = batches_of(catalogue, 2, 4, sampler=every_row)
    halves = [batches_of(catalogue, 2, 4, sampler=every_row, rank=rank, world=2) for rank in range(2)]
    assert sorted(row for rows in whole for row in rows) == list(range(72))
    for of_one, *of_ranks in zip(whole, *halves, strict=True):
        assert [row for rows in of_ranks for row in rows] == of_one
    first = list(whole)
    whole.set_epoch(1)
    assert list(whole) != first
    whole.set_epoch(0)
    assert list(whole) == first


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 7), int), np.zeros((0, 8), int), np.full((1, 8), 72), np.zeros((1, 8)), np.zeros(8, int)]
)
def test_what_is_no_epoch_of_batches_is_said(wrong):
    with pytest.raises(UserError, match=r"data.sampler gave an array .* rows from 0 to 71, \(at least 1, 8\)"):
        len(batches_of(catalogue_of([(6, 6)] * 6), 2, 4, sampler=lambda *_: wrong))


def test_random_needs_no_identity_with_both_modalities():
    lonely = catalogue_of([(4, 0), (0, 3), (5, 0)])
    assert len(list(batches_of(lonely, 1, 2, sampler="random"))) == 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"k": 7}, "images_per_identity must be even .* got 7"),
        ({"k": 0}, "at least 2, got 0"),
        ({"p": 10}, "takes 10 different identities, but the training split has 9: set .* at most 9"),
        ({"p": 8, "world": 3}, "8 identities per batch cannot be shared equally by 3 ranks: set .* to 6 or 9"),
        ({"p": 2, "world": 3}, "by 3 ranks: set identities_per_batch to 3"),
        ({"sampler": "fair"}, "with_replacement or any_modality, got 'fair'"),
    ],
)
def test_what_cannot_be_drawn_is_said_at_once(settings, sentence):
    settings = {"p": 3, "k": 4, **settings}
    with pytest.raises(UserError, match=sentence):
        batches_of(catalogue_of(LOPSIDED), settings.pop("p"), settings.pop("k"), **settings)


def test_an_identity_with_one_modality_is_named():
    catalogue = catalogue_of([(3, 3), (3, 0), (2, 2), (0, 1)])
    with pytest.raises(UserError, match=r"2 training identities .* \(visible/1/0.jpg, infrared/3/0.jpg\)"):
        batches_of(catalogue, 2, 2)
    with pytest.raises(UserError, match="has 6 visible and 0 infrared images"):
        batches_of(catalogue_of([(6, 0)]), 1, 2, sampler="random")


@pytest.mark.parametrize(("one_sided", "end"), [(5, r"visible/4/0.jpg\)"), (6, r"visible/4/0.jpg, …\)")])
def test_five_of_those_with_one_modality_are_named(one_sided, end):
    with pytest.raises(UserError, match=f"{one_sided} training identities .*{end}"):
        batches_of(catalogue_of([(2, 0)] * one_sided + [(2, 2)] * 2), 2, 2)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("images", [4, 5, 16, 97])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_evaluation_sees_every_image_once_in_equally_many_batches(images, size, world):
    catalogue = catalogue_of([(images, 0)])
    ranks = [list(EvaluationBatches(catalogue, size, rank=rank, world=world)) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    assert all(batch for rank in ranks for batch in rank)
    assert sorted(row for rank in ranks for batch in rank for row in batch) == list(range(images))
    assert max(len(batch) for rank in ranks for batch in rank) <= size + (images % world > 0)


def test_fewer_images_than_ranks_are_told():
    with pytest.raises(UserError, match="2 images to evaluate cannot be shared by 3 processes: start fewer"):
        EvaluationBatches(catalogue_of([(2, 0)]), 4, rank=2, world=3)


def rows_of(counts: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    catalogue = catalogue_of(counts)
    return catalogue.identities.numpy(), catalogue.infrared.numpy().astype(np.int64)


def test_what_comes_again_is_counted_over_batches_and_ranks():
    catalogue = catalogue_of([(2, 2), (2, 2), (9, 9), (5, 5)])
    whole = batches_of(catalogue, 2, 8)
    seen: dict[int, int] = {}
    for rows in whole:
        for row, times in zip(rows, rows.occurrence, strict=True):
            assert times == seen.get(row, 0)
            seen[row] = times + 1
    assert max(seen.values()) > 2
    ranks = [batches_of(catalogue, 2, 8, rank=rank, world=2) for rank in range(2)]
    for of_one, left, right in zip(whole, *ranks, strict=True):
        assert left.occurrence + right.occurrence == of_one.occurrence
    rows = next(iter(whole))
    sent = pickle.loads(pickle.dumps(rows))  # to a worker
    assert (sent, sent.occurrence) == (rows, rows.occurrence)
