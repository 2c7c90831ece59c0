"""Local maps, their terms, their motions, and how they plug in."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.nn.functional import affine_grid, grid_sample

from mpanet_pl.data import Batch
from mpanet_pl.errors import UserError
from mpanet_pl.methods.local_maps import (
    LocalMaps,
    LocalMPANet,
    Sharpen,
    concentration,
    draw_motions,
    equivariance,
    gathered,
    move,
    overlap,
)
from mpanet_pl.module import MPANetModule
from mpanet_pl.network import Embedding
from mpanet_pl.step import asked_of_step

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),  # Lightning's own use of torch's trees
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]
LOCAL = "mpanet_pl.methods.local_maps."
THIN = {"trunk": "resnet18_thin", "pretrained": False, "alleviation": [], "patterns": 2}
IDENTITIES = torch.tensor([5, 2, 5, 9, 2, 5])


def tiny(**changes: object) -> LocalMPANet:
    torch.manual_seed(0)
    return LocalMPANet(**{**THIN, "patterns": 3} | changes)  # type: ignore[arg-type]


def images(count: int = 4, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(1), dtype=dtype)


def a_batch(count: int = 8) -> Batch:
    rows = torch.arange(count)
    return Batch(images(count), rows // 2 % 4, rows, rows % 2 == 1, rows)


def tiny_module(target: str = LOCAL + "LocalMPANet", **weights: float) -> MPANetModule:
    torch.manual_seed(0)
    extra = {name.lower(): {"_target_": LOCAL + name, "weight": weight} for name, weight in weights.items()}
    return MPANetModule(
        4, network={"_target_": target, **THIN}, criterion={"extra": extra}, optimizer={}, schedule={"milestones": [9]}
    )


def test_local_maps_are_softmaxes_of_cosines_without_the_images_mean_around_heights_of_their_own() -> None:
    torch.manual_seed(0)
    maps = LocalMaps(5, 3).eval().double()
    maps.sharpen(0.1)
    seen, features = maps(torch.randn(2, 5, 8, 6, dtype=torch.float64))
    assert seen.shape == (2, 3, 4, 3)
    for image in range(2):
        places = features[image].flatten(1).T  # (h·w, 64)
        for pattern, own in enumerate((1 / 6, 3 / 6, 5 / 6)):
            logits = [
                20 * 0.37 * torch.cosine_similarity(maps.directions[pattern], place - places.mean(0), dim=0)
                - (((number // 3 + 0.5) / 4 - own) / 0.1) ** 2 / 2
                for number, place in enumerate(places)
            ]
            torch.testing.assert_close(seen[image, pattern].flatten(), torch.stack(logits).softmax(0))
    summed = gathered(features, seen)
    torch.testing.assert_close(summed[1, 64:128], (seen[1, 1] * features[1]).sum((1, 2)))


def test_a_local_map_sees_a_small_part_of_the_image() -> None:
    """23 pixels of it, behind a thin trunk; what is far changes its features by nothing."""
    network = tiny(patterns=2).eval()
    images = torch.randn(1, 3, 64, 32)
    changed = images.clone()
    changed[:, :, 32:] = 0
    with torch.no_grad():
        before, after = (
            network.patterns(network.trunk.through(("stem", "layer1"), pictures))[1] for pictures in (images, changed)
        )
    assert before is not None
    assert after is not None
    same = (before == after).all(1)[0].all(1)
    assert same.tolist() == [True] * 6 + [False] * 10  # rows of 4 pixels: 12 below row 5 see no change


def test_where_an_image_says_nothing_each_local_map_is_its_stripe() -> None:
    maps, _ = LocalMaps(5, 4).eval()(torch.zeros(1, 5, 32, 12))
    assert maps.sum(3).argmax(2).tolist() in ([[1, 5, 9, 13]], [[2, 6, 10, 14]])  # of 16 rows, around 2, 6, 10, 14
    torch.testing.assert_close(maps[..., :1].expand_as(maps), maps)


def test_local_maps_teach_the_trunk_nothing() -> None:
    early = torch.randn(2, 5, 8, 6, requires_grad=True)
    maps, features = LocalMaps(5, 3)(early)
    (maps.square().sum() + features.sum()).backward()
    assert early.grad is None


@pytest.mark.parametrize(("progress", "factor"), [(0, 0.1), (1 / 6, 0.55), (1 / 3, 1), (1, 1)])
def test_local_maps_sharpen_over_the_first_third(progress: float, factor: float) -> None:
    maps = LocalMaps(4, 2)
    assert maps.sharpness == 1
    maps.sharpen(progress)
    assert maps.state_dict()["sharpness"].item() == pytest.approx(factor)


def test_overlap() -> None:
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    cosines = [
        torch.cosine_similarity(maps[b, i].flatten(), maps[b, j].flatten(), dim=0)
        for b in range(2)
        for i in range(3)
        for j in range(i)
    ]
    torch.testing.assert_close(overlap(maps), torch.stack(cosines).mean())


def test_concentration() -> None:
    maps = torch.rand(2, 3, 6, 4, dtype=torch.float64)
    variances = []
    for weights in maps.flatten(0, 1):
        places = [(y / 6, x / 6, weights[y, x] / weights.sum()) for y in range(6) for x in range(4)]
        centre = [sum(place[axis] * place[2] for place in places) for axis in (0, 1)]
        variances.append(sum(w * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) for y, x, w in places))
    torch.testing.assert_close(concentration(maps), torch.stack(variances).mean())


def test_equivariance() -> None:
    maps, seen = torch.rand(2, 2, 3, 6, 4, dtype=torch.float64)
    motions = draw_motions(2, maps.device).double()
    expected = torch.stack(
        [
            1 - torch.cosine_similarity(one.flatten(), other.flatten(), dim=0)
            for pair in zip(seen, move(maps, motions), strict=True)
            for one, other in zip(*pair, strict=True)
        ]
    )
    torch.testing.assert_close(equivariance(maps, seen, motions), expected.mean())
    torch.testing.assert_close(equivariance(maps, move(maps, motions), motions), maps.new_zeros(()))


def test_without_maps_there_is_nothing_to_say_of_them() -> None:
    none = torch.rand(2, 0, 4, 5)
    motions = draw_motions(2, none.device)
    assert overlap(none) == concentration(none) == 0
    assert equivariance(none, none, motions) == 0
    assert overlap(torch.rand(2, 1, 4, 5)) == 0


def test_local_maps_have_a_finer_grid_and_narrow_patterns() -> None:
    network = tiny()
    seen = network(images())
    assert [tuple(part.shape) for part in seen] == [(4, 3, 16, 8), (4, 128 + 3 * 64), (4, 128 + 3 * 64)]
    assert torch.equal(network.eval().looks(images()), network(images()).maps)
    torch.testing.assert_close(seen.maps.sum((2, 3)), torch.ones(4, 3))
    torch.testing.assert_close(network(images()).descriptor[:, 3 * 64 :], network.trunk(images()).mean((2, 3)))


def test_in_training_three_of_four_embeddings_go_without_local_features() -> None:
    network = tiny()
    torch.manual_seed(0)
    seen = network(torch.randn(200, 3, 16, 8))
    whole, local = network.neck(seen.descriptor), 3 * 64
    withheld = (seen.embedding[:, :local] == 0).all(1)
    assert 0.65 < withheld.float().mean() < 0.85
    torch.testing.assert_close(seen.embedding[~withheld], whole[~withheld])
    torch.testing.assert_close(seen.embedding[withheld, local:], whole[withheld, local:])
    network.eval()
    torch.testing.assert_close(network(images()).embedding, network.neck(network(images()).descriptor))


@pytest.mark.parametrize("target", [LOCAL + "LocalMPANet", "mpanet_pl.network.MPANet"])
def test_a_look_leaves_no_trace_in_running_statistics(target: str) -> None:
    module = tiny_module(target, Equivariance=1.0).train()
    before = {name: value.clone() for name, value in module.network.named_buffers() if "running" in name}
    asked_of_step(module, a_batch())["look"](images(8))
    after = dict(module.network.named_buffers())
    assert before
    assert all(torch.equal(after[name], value) for name, value in before.items())
    module.losses(a_batch())
    assert not torch.equal(module.network.trunk.bn1.running_mean, before["trunk.bn1.running_mean"])


@pytest.mark.parametrize("changes", [{"patterns": 0}, {"trunk": torch.nn.Conv2d(3, 4, 1)}])
def test_local_maps_need_patterns_and_a_resnet(changes: dict) -> None:
    if "trunk" in changes:
        changes["trunk"].channels = 4
    with pytest.raises(UserError, match="local maps need patterns and a ResNet of torchvision"):
        tiny(**changes)


@pytest.mark.parametrize("target", [LOCAL + "LocalMPANet", "mpanet_pl.network.MPANet"])
def test_equivariance_looks_at_moved_images_and_changes_no_other_term(target: str) -> None:
    moved, plain = tiny_module(target, Equivariance=5.0), tiny_module(target)
    torch.manual_seed(0)
    terms = moved.losses(a_batch())
    torch.manual_seed(0)
    without = plain.losses(a_batch())
    assert 0 < terms["equivariance"] < 1
    assert all(torch.equal(terms[name], without[name]) for name in without.keys() - {"total"})
    torch.testing.assert_close(terms["total"], without["total"] + 5 * terms["equivariance"])
    terms["equivariance"].backward()
    learned = [name for name, weight in moved.named_parameters() if weight.grad is not None and weight.grad.any()]
    assert any(name.startswith("network.patterns") for name in learned)
    assert any(name.startswith("network.trunk") for name in learned) == (target == "mpanet_pl.network.MPANet")
    assert not any(name.startswith("criterion") for name in learned)


def test_moved_images_have_no_edge_of_their_own() -> None:
    module, seen = tiny_module(Equivariance=5.0), []
    batch = a_batch()._replace(images=torch.full((8, 3, 64, 32), 2.0))
    looks = module.network.looks
    module.network.looks = lambda images, infrared: seen.append(images) or looks(images, infrared)
    module.losses(batch)
    torch.testing.assert_close(seen[0], batch.images)


def test_local_maps_sharpen_with_the_runs_steps(tmp_path: Path) -> None:
    module, told = tiny_module(), []
    module.network.patterns.sharpen = told.append
    loader = torch.utils.data.DataLoader([a_batch(), a_batch()], batch_size=None)
    quiet = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    pl.Trainer(max_epochs=2, callbacks=[Sharpen()], enable_model_summary=False, **quiet).fit(module, loader)
    assert told == [0, 0.25, 0.5, 0.75]


def test_the_terms_of_the_maps_are_those_functions() -> None:
    module = tiny_module(Overlap=1.0, Concentration=20.0)
    torch.manual_seed(0)
    terms = module.losses(a_batch())
    torch.manual_seed(0)
    maps = module.network(a_batch().images).maps
    torch.testing.assert_close(terms["overlap"], overlap(maps))
    torch.testing.assert_close(terms["concentration"], concentration(maps))


@pytest.mark.parametrize("training", [True, False])
def test_permuting_images_permutes_embeddings(training: bool) -> None:
    network = tiny().double().train(training)
    order = torch.tensor([2, 0, 3, 1])
    seen, permuted = (network(batch) for batch in (images(dtype=torch.float64), images(dtype=torch.float64)[order]))
    if training:  # embeddings are withheld by chance
        seen, permuted = (part._replace(embedding=network.neck(part.descriptor)) for part in (seen, permuted))
    torch.testing.assert_close(permuted, Embedding(*(part[order] for part in seen)))


@pytest.mark.parametrize(("continued", "padding"), [(False, "zeros"), (True, "border")])
def test_moving_is_bilinear_sampling(continued: bool, padding: str) -> None:
    """Against torch's, which has no deterministic gradient on a GPU."""
    torch.manual_seed(0)
    motions, pictures = draw_motions(6, torch.device("cpu")).double(), torch.rand(6, 3, 12, 7, dtype=torch.float64)
    affine = torch.zeros(6, 2, 3, dtype=torch.float64)
    affine[:, 0, 0], affine[:, 0, 2] = motions[:, 1].T  # across comes first there
    affine[:, 1, 1], affine[:, 1, 2] = motions[:, 0].T
    grid = affine_grid(affine, [6, 3, 12, 7], align_corners=False)
    expected = grid_sample(pictures, grid, padding_mode=padding, align_corners=False)
    torch.testing.assert_close(move(pictures, motions, continued=continued), expected)


def test_motions_keep_their_bounds_and_half_of_them_mirror() -> None:
    torch.manual_seed(0)
    motions = draw_motions(4000, torch.device("cpu"))
    scale, shift = 1 / motions[:, :, 0], motions[:, :, 1] / 2  # of the image's side
    torch.testing.assert_close(scale[:, 0], scale[:, 1].abs())
    assert 0.8 <= scale[:, 0].min() < 0.81
    assert 1.19 < scale[:, 0].max() <= 1.2
    assert 0.14 < shift.max() <= 0.15
    assert -0.15 <= shift.min() < -0.14
    assert 0.45 < (scale[:, 1] < 0).float().mean() < 0.55


def test_no_motion_leaves_a_picture() -> None:
    pictures = torch.rand(2, 1, 5, 3)
    torch.testing.assert_close(move(pictures, torch.tensor([[1.0, 0.0], [1.0, 0.0]]).expand(2, 2, 2)), pictures)
