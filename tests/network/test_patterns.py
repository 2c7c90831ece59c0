import pytest
import torch

from mpanet_pl.network import MPANet
from mpanet_pl.network.patterns import GeneralisedMean, LocalMaps, PatternMaps, describe, gathered


def test_a_descriptor_is_a_weighted_mean_for_each_pattern_and_the_plain_mean() -> None:
    features, maps = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.rand(2, 2, 4, 5, dtype=torch.float64)
    for image in range(2):
        expected = []
        for weight in [*maps[image], torch.ones(4, 5)]:
            expected += [(weight * channel).mean() for channel in features[image]]
        torch.testing.assert_close(describe(features, maps)[image], torch.stack(expected))


def test_maps_look_between_zero_and_one_and_are_even_at_first() -> None:
    maps = PatternMaps(8, 3)
    assert maps(torch.randn(2, 8, 4, 5)).shape == (2, 3, 4, 5)
    torch.testing.assert_close(maps(torch.zeros(2, 8, 4, 5)), torch.full((2, 3, 4, 5), 0.5))


def test_without_patterns_the_descriptor_is_the_mean() -> None:
    features = torch.randn(2, 8, 4, 5)
    none = PatternMaps(8, 0)
    assert none(features).shape == (2, 0, 4, 5)
    assert not list(none.parameters())
    torch.testing.assert_close(describe(features, none(features)), features.mean((2, 3)))


@pytest.mark.parametrize("half", [torch.float32, torch.float16])
def test_the_generalised_mean_is_that_of_the_definition(half: torch.dtype) -> None:
    torch.manual_seed(0)
    features, maps = (100 * torch.randn(2, 5, 4, 3)).to(half), torch.rand(2, 2, 4, 3).to(half)
    with torch.autocast("cpu", torch.float16, enabled=half != torch.float32):
        described = GeneralisedMean()(features, maps)
    cubes = features.double().clamp(min=1e-6) ** 3
    for image in range(2):
        expected = []
        for weight in [*maps[image].double(), torch.ones(4, 3)]:
            expected += [(weight * cube).mean() ** (1 / 3) for cube in cubes[image]]
        torch.testing.assert_close(described[image].double(), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_where_nothing_is_seen_the_generalised_mean_has_a_slope() -> None:
    features, pooling = torch.full((1, 2, 3, 3), -1.0, requires_grad=True), GeneralisedMean()
    pooling(features, torch.zeros(1, 1, 3, 3)).sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert pooling.p.grad is not None
    assert pooling.p.grad.isfinite()


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
    network = MPANet(trunk="resnet18_thin", pretrained=False, alleviation=[], patterns=2, maps="local").eval()
    images = torch.randn(1, 3, 64, 32)
    changed = images.clone()
    changed[:, :, 32:] = 0
    with torch.no_grad():
        before, after = (network.see(pictures)[2] for pictures in (images, changed))
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
