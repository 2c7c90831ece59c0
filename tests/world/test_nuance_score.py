import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from mpanet_pl.world.annotations import Annotations
from mpanet_pl.world.nuance_score import (
    NuanceScore,
    activation_map,
    coverage,
    one_map,
    overlap,
    pairings,
    pairings_within,
    pointing,
    regions,
    score_maps,
    some_map,
)
from mpanet_pl.world.nuance_table import nuance_line, nuance_remarks, nuance_table

HIDDEN = [math.nan] * 4


def draw(images=7, nuances=3, maps=4, height=5, width=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, nuances, 2, generator=generator) * 0.7
    boxes = torch.cat([corner, corner + torch.rand(images, nuances, 2, generator=generator) * 0.3], dim=2)
    boxes[torch.rand(images, nuances, generator=generator) < 0.3] = math.nan
    return torch.rand(images, maps, height, width, generator=generator), boxes


def cells_of(box, height, width):
    """From the definition: the cells whose centre is in the box, which is at least a cell wide and high."""
    left, top, right, bottom = box
    grown_x, grown_y = max(0, 1 / width - (right - left)) / 2 + 1e-6, max(0, 1 / height - (bottom - top)) / 2 + 1e-6
    return {
        (i, j)
        for i in range(height)
        for j in range(width)
        if top - grown_y <= (i + 0.5) / height <= bottom + grown_y
        and left - grown_x <= (j + 0.5) / width <= right + grown_x
    }


@pytest.mark.parametrize("seed", range(5))
def test_measures_follow_their_definition(seed):
    maps, boxes = draw(seed=seed)
    region = regions(boxes, 5, 3)
    pointed, covered = pointing(maps, region), coverage(maps, region)
    for n, k, p in itertools.product(range(7), range(3), range(4)):
        one = maps[n, p]
        truth = cells_of(boxes[n, k].tolist(), 5, 3)
        middle = (one.max() + one.min()) / 2
        on = {(i, j) for i in range(5) for j in range(3) if one[i, j] >= middle}
        assert pointed[n, k, p] == (divmod(one.argmax().item(), 3) in truth)
        assert covered[n, k, p] == pytest.approx(len(on & truth) / len(on | truth))


def test_every_visible_box_has_a_cell_and_a_hidden_one_none():
    boxes = torch.rand(200, 5, 2).repeat(1, 1, 2)  # points
    boxes[0, 0] = torch.tensor([0.5, 0.5, 0.5, 0.5])  # on the border between cells
    boxes[1, 1] = math.nan
    cells = regions(boxes, 8, 4).sum(dim=(2, 3))
    assert cells[1, 1] == 0
    cells[1, 1] = 1
    assert cells.min() == 1


def test_a_constant_map_scores_by_luck_alone():
    region = regions(torch.tensor([[[0.0, 0.0, 1.0, 0.25]]]), 8, 4)  # a quarter of the image
    constant = torch.full((1, 1, 8, 4), 0.5)
    assert pointing(constant, region).item() == 0.25
    assert coverage(constant, region).item() == 0.25


def test_perfect_maps_score_full_marks_and_their_chance_does_not():
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(8, (60, 1, 2), generator=generator) / 8
    boxes = torch.cat([corner, corner + 1 / 8], dim=2)
    maps = regions(boxes, 8, 8).float()
    scores = score_maps(maps, torch.ones(60, 8, 8), boxes, torch.arange(60))
    for name in ("pointing_some_map", "pointing_one_map", "coverage_some_map", "coverage_one_map"):
        assert scores[name].item() == 100
        assert scores[f"{name}_chance"].item() < 10
    assert scores["pointing_activation"].item() == pytest.approx(100 / 64)


def test_a_map_at_a_fixed_place_is_no_better_than_its_chance():
    maps, boxes = draw(images=40)
    scores = score_maps(maps[:1].expand(40, -1, -1, -1), maps[:1, 0].expand(40, -1, -1), boxes, torch.arange(40))
    for name in ("pointing_some_map", "coverage_one_map", "pointing_activation"):
        assert torch.allclose(scores[name], scores[f"{name}_chance"])


def test_some_map_takes_an_images_best_and_leaves_hidden_nuances_out():
    found = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 0.0]], [[1.0, 1.0]]])
    visible = torch.tensor([[True], [True], [True], [False]])
    assert some_map(found, visible).item() == pytest.approx(2 / 3)
    assert some_map(found, torch.zeros_like(visible)).isnan().all()


def test_one_map_is_measured_where_it_was_not_chosen():
    noise = (torch.rand(200, 5, 30, generator=torch.Generator().manual_seed(3)) < 0.5).float()
    visible = torch.ones(200, 5, dtype=torch.bool)
    assert one_map(noise, visible).mean().item() == pytest.approx(0.5, abs=0.03)
    assert noise.mean(dim=0).amax(dim=1).mean() > 0.55  # the best of thirty on the very images it was chosen on
    noise[:, :, 7] = 1
    assert one_map(noise, visible).tolist() == [1] * 5


def ceiling_by_loop(boxes, identities, height, width):
    """Mean over ordered pairs of one person's pictures: how much of a box lies on the other picture's."""
    hits = [[] for _ in range(boxes.shape[1])]
    for one, other in itertools.permutations(range(len(boxes)), 2):
        for k, (here, there) in enumerate(zip(boxes[one].tolist(), boxes[other].tolist(), strict=True)):
            if identities[one] == identities[other] and not math.isnan(here[0] + there[0]):
                cells = cells_of(there, height, width)
                hits[k].append(len(cells & cells_of(here, height, width)) / len(cells))
    return [100 * sum(of_nuance) / len(of_nuance) for of_nuance in hits]


def test_the_ceiling_is_a_box_from_another_picture_of_the_same_person():
    maps, boxes = draw(images=24, seed=1)
    identities = torch.arange(24) % 4  # six pictures each: the five pairings are all pairs
    scores = score_maps(maps, maps[:, 0], boxes, identities)
    assert scores["pointing_same_person"].tolist() == pytest.approx(ceiling_by_loop(boxes, identities, 5, 3))


def test_who_stands_still_reaches_the_ceiling_and_others_boxes_do_not():
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(8, (20, 1, 2), generator=generator).repeat(3, 1, 1) / 8
    boxes, identities = torch.cat([corner, corner + 1 / 8], dim=2), torch.arange(20).repeat(3)
    scores = score_maps(torch.rand(60, 0, 8, 8), torch.ones(60, 8, 8), boxes, identities)
    for measure in ("pointing", "coverage"):
        assert scores[f"{measure}_same_person"].item() == 100
        assert scores[f"{measure}_same_person_chance"].item() < 10


def test_who_is_seen_once_has_no_ceiling():
    maps, boxes = draw(images=5)
    assert score_maps(maps, maps[:, 0], boxes, torch.arange(5))["pointing_same_person"].isnan().all()


def test_pairings_within_groups_give_each_row_every_other_of_its_group():
    groups = torch.tensor([3, 1, 3, 3, 7, 1, 3, 3, 3])  # six, two and one
    partners = torch.stack(pairings_within(groups))
    assert len(partners) == 5
    for row, group in enumerate(groups):
        others = {other for other in range(9) if groups[other] == group and other != row}
        assert set(partners[:, row].tolist()) - {row} == others


@pytest.mark.parametrize("count", [2, 3, 5, 50])
def test_pairings_move_every_image_and_differ(count):
    shifts = pairings(count)
    assert len(shifts) == min(5, count - 1)
    assert len({tuple(shift.tolist()) for shift in shifts}) == len(shifts)
    for shift in shifts:
        assert shift.sort().values.equal(torch.arange(count))
        assert (shift != torch.arange(count)).all()


def test_overlap_of_equal_and_of_disjoint_maps():
    same = torch.rand(2, 1, 4, 4).expand(-1, 3, -1, -1)
    assert overlap(same) == pytest.approx({"cosine": 1.0, "iou": 1.0})
    halves = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 1.0]]]])  # pairs: 0; 1/√2; 1/√2
    assert overlap(halves) == pytest.approx({"cosine": 2 / math.sqrt(2) / 3, "iou": (0 + 0.5 + 0.5) / 3})


def annotations(boxes):
    none = torch.full((len(boxes),), -1)
    return Annotations(
        tuple(f"nuance{k}" for k in range(boxes.shape[1])), boxes, none, none, torch.full_like(boxes[:, 0], math.nan)
    )


def score_of(boxes):
    return NuanceScore(annotations(boxes), torch.arange(len(boxes)) // 3)


def test_batches_their_order_and_images_seen_twice_change_nothing():
    maps, boxes = draw(images=20)
    activation = activation_map(torch.randn(20, 6, 5, 3))
    whole, parts = score_of(boxes), score_of(boxes)
    whole.update(maps, activation, torch.arange(20))
    for rows in (torch.arange(19, 7, -1), torch.arange(0, 10)):
        parts.update(maps[rows], activation[rows], rows)
    assert parts.compute() == whole.compute()


def test_scores_leave_out_what_no_image_shows():
    maps, boxes = draw()
    boxes[:, 1] = math.nan
    score = score_of(boxes)
    score.update(maps, maps[:, 0], torch.arange(7))
    scores = score.compute()
    assert "pointing_some_map/nuance0" in scores
    assert "pointing_some_map/nuance1" not in scores
    assert scores["images/nuance1"] == 0
    assert all(math.isfinite(value) for value in scores.values())
    assert scores["pointing_some_map/mean"] == pytest.approx(
        (scores["pointing_some_map/nuance0"] + scores["pointing_some_map/nuance2"]) / 2
    )


@pytest.mark.parametrize("patterns", [0, 1])
def test_a_network_without_maps_or_with_one_is_scored_too(patterns):
    maps, boxes = draw()
    score = score_of(boxes)
    score.update(maps[:, :patterns], maps[:, 0], torch.arange(7))
    scores = score.compute()
    assert "pointing_activation/mean" in scores
    assert ("pointing_some_map/mean" in scores) == (patterns > 0)
    assert not [key for key in scores if key.startswith("overlap/")]


def test_the_table_shows_each_nuance_with_its_chance():
    maps, boxes = draw()
    score = score_of(boxes)
    score.update(maps, maps[:, 0], torch.arange(7))
    scores = score.compute() | {"siblings/nuance2": 81.25, "siblings/mean": 81.25}
    header, rows = nuance_table(scores)
    assert [row[0] for row in rows] == ["nuance0", "nuance1", "nuance2", "mean"]
    assert {len(row) for row in rows} == {len(header)}
    of_nuance2 = dict(zip(header, rows[2], strict=True))
    points, chance = scores["pointing_some_map/nuance2"], scores["pointing_some_map_chance/nuance2"]
    assert of_nuance2["some map points"] == f"{points:.1f} ({chance:.1f})"
    assert of_nuance2["siblings told apart"] == "81.2"
    assert rows[1][-1] == ""
    assert f"cosine {scores['overlap/cosine']:.1f}" in nuance_remarks(scores)[-1]


def test_the_table_of_a_network_without_maps_is_narrower():
    maps, boxes = draw()
    score = score_of(boxes)
    score.update(maps[:, :0], maps[:, 0], torch.arange(7))
    header, _ = nuance_table(score.compute())
    assert header == [
        "nuance",
        "images",
        "activation points",
        "same person's box points",
        "activation covers",
        "same person's box covers",
    ]
    assert not [remark for remark in nuance_remarks(score.compute()) if "overlap" in remark]


def test_the_line_says_what_there_is():
    maps, boxes = draw()
    score = score_of(boxes)
    score.update(maps, maps[:, 0], torch.arange(7))
    scores = score.compute()
    points, chance = scores["pointing_some_map/mean"], scores["pointing_some_map_chance/mean"]
    assert nuance_line(scores) == f"nuances: some map points {points:.1f} % (chance {chance:.1f})"
    told = {"siblings/mean": 74.96, "siblings_hidden/mean": 50.04, "siblings_elsewhere/mean": 74.0}
    assert nuance_line(told) == "nuances: siblings told apart 75.0 % (chance 50.0), with it hidden 50.0 %"


def one_rank(rank, folder):
    torch.set_num_threads(1)
    drawn = torch.load(folder / "drawn.pt", weights_only=True)
    score = score_of(drawn["boxes"])
    score.annotations = replace(score.annotations, nuances=("a", "b", "c"))
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for shares in (([5, 1, 0], [2, 3, 4, 6, 0]), ([6, 5, 4, 3, 2, 1, 0], [])):
        index = torch.tensor(shares[rank], dtype=torch.int64)
        if len(index):
            score.update(drawn["maps"][index], drawn["maps"][index, 0], index)
        assert score.compute() == drawn["expected"], (rank, shares)
        score.reset()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric NuanceScore was called before")
def test_two_ranks_give_the_scores_of_one_whatever_their_shares(tmp_path):
    maps, boxes = draw()
    alone = score_of(boxes)
    alone.annotations = replace(alone.annotations, nuances=("a", "b", "c"))
    alone.update(maps, maps[:, 0], torch.arange(7))
    torch.save({"maps": maps, "boxes": boxes, "expected": alone.compute()}, tmp_path / "drawn.pt")
    torch.multiprocessing.start_processes(one_rank, (tmp_path,), nprocs=2, start_method="fork")
