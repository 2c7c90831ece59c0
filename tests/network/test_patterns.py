import torch

from mpanet_pl.network.patterns import PatternMaps, describe


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
