"""The tone curve against a slow loop from its definition."""

import numpy as np
import torch

from mpanet_pl.data import tone
from mpanet_pl.data.augment import Augmentation
from mpanet_pl.data.randomness import image_keys


def pictures(count: int, height: int = 9, width: int = 5) -> torch.Tensor:
    """uint8 (count, H, W, 3)"""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def draws(count: int, probability: float = 0.8, knots: int = 5) -> tone.Tones:
    return tone.draw(image_keys(1, 0, torch.arange(count)), probability, knots)


def test_each_pixel_becomes_the_curve_at_its_grey():
    pixels, tones = pictures(6), draws(6)
    result = tone.apply(pixels, tones)
    assert 0 < tones.changed.sum() < 6
    for image, changed, weights, curve, done in zip(
        pixels.tolist(), *(part.tolist() for part in tones), result.tolist(), strict=True
    ):
        for row, done_row in zip(image, done, strict=True):
            for pixel, done_pixel in zip(row, done_row, strict=True):
                grey = int(sum(w * value for w, value in zip(weights, pixel, strict=True)) / 65536 + 0.5)
                assert done_pixel == ([curve[grey]] * 3 if changed else pixel)


def test_a_curve_is_linear_between_its_knots():
    knots = torch.tensor([[0.0, 255.0, 10.0, 10.0, 200.0]], dtype=torch.float64)
    truth = np.interp(np.arange(256), np.linspace(0, 255, 5), knots[0].numpy())
    assert tone._curves(knots)[0].tolist() == np.round(truth).astype(int).tolist()


def test_two_knots_are_a_straight_line_and_three_bend_in_the_middle():
    steps = torch.linspace(0, 1, 256, dtype=torch.float64)
    for knots, places in ((2, [0, 255]), (3, [0, 127, 255])):
        for curve in draws(50, knots=knots).curves.double():
            expected = np.interp(steps * 255, places, curve[places])
            assert (curve - torch.from_numpy(expected)).abs().max() <= 3  # rounding, and half a place of the middle
    straight, bent = draws(50, knots=2).curves.double(), draws(50, knots=3).curves.double()
    assert (straight[:, 0] - straight[:, -1]).abs().mean() > 20
    assert (bent[:, 127] - (bent[:, 0] + bent[:, -1]) / 2).abs().mean() > 20


def test_the_draws_are_the_stated_ones():
    tones = draws(20_000)
    assert abs(tones.changed.float().mean() - 0.8) < 0.01
    assert (tones.weights.sum(1) == 65536).all()
    assert (tones.weights >= 0).all()
    share = tones.weights.double() / 65536  # exponential draws, normalised: uniform on the triangle, variance 1/18
    assert torch.allclose(share.mean(0), torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.01)
    assert torch.allclose(share.var(0), torch.full((3,), 1 / 18, dtype=torch.float64), atol=0.003)
    ends = tones.curves[:, [0, -1]].double()
    assert torch.allclose(ends.mean(0), torch.full((2,), 127.5, dtype=torch.float64), atol=2)
    assert (ends.amin(), ends.amax()) == (0, 255)


def test_either_modality_is_toned_before_all_else():
    images = pictures(64).permute(0, 3, 1, 2)
    plain, toned = Augmentation(flip=0, pad=0, erase=0), Augmentation(flip=0, pad=0, erase=0, tone=0.5)
    index, infrared = torch.arange(64), torch.arange(64) % 2 == 0
    before = tone.apply(pictures(64), draws(64, 0.5)).permute(0, 3, 1, 2)
    result = toned(images, index, infrared, seed=1, epoch=0)
    assert torch.equal(result, plain(before, index, infrared, seed=1, epoch=0))
    changed = (result != plain(images, index, infrared, seed=1, epoch=0)).flatten(1).any(1)
    assert 8 < changed[infrared].sum() < 24
    assert 8 < changed[~infrared].sum() < 24


def test_the_accelerators_way_is_the_processors():
    pixels, tones = pictures(40, 48, 24), draws(40)
    assert torch.equal(tone._toned(pixels, tones), tone.apply(pixels, tones))  # all at once, and a few at a time
