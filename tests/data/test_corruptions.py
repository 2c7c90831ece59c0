"""Corruptions: drawn by the path alone, harder with severity, and the strengths that were published."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mpanet_pl.data import SYSU, ReIDDataModule
from mpanet_pl.data.corruptions import (
    CORRUPTIONS,
    Corrupt,
    contrast,
    gaussian_noise,
    impulse_noise,
    motion_blur,
    saturate,
)
from mpanet_pl.data.weather import edges, frost, frosted_glass, rain, snow, spatter
from mpanet_pl.errors import UserError

PICTURE = np.random.default_rng(1).integers(40, 216, (48, 24, 3)).astype(np.uint8)
FIXED = {"gaussian_blur", "defocus_blur", "zoom_blur", "brightness", "contrast", "saturate", "pixelate"}
FIXED |= {"jpeg_compression"}  # those that draw nothing
SMOOTH = np.linspace(40, 200, 48 * 24 * 3).reshape(48, 24, 3).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_is_a_function_of_the_path(name: str) -> None:
    corrupt = Corrupt(name, severity=3)
    once = corrupt(PICTURE, "a.jpg", False)
    assert once.shape == PICTURE.shape
    assert once.dtype == np.uint8
    assert np.array_equal(once, corrupt(PICTURE, "a.jpg", False))
    assert not np.array_equal(once, PICTURE)
    assert not np.array_equal(once, Corrupt(name, severity=3, seed=2)(PICTURE, "a.jpg", False)) or name in FIXED
    assert np.array_equal(corrupt(PICTURE, "a.jpg", True), PICTURE)  # infrared images stay
    grey = np.repeat(PICTURE[..., :1], 3, axis=2)
    infrared = Corrupt(name, severity=3, of="infrared")(grey, "a.jpg", True)
    assert (infrared == infrared[..., :1]).all()
    assert np.array_equal(infrared, grey) == (name == "saturate"), "a grey image has no saturation"


@pytest.mark.parametrize("name", sorted(CORRUPTIONS.keys() - {"saturate"}))  # whose severities take away, then add
def test_severity_5_changes_more_than_severity_1(name: str) -> None:
    source = PICTURE if "blur" in name or name == "pixelate" else SMOOTH
    changes = [
        np.mean(
            [np.abs(Corrupt(name, severity=s)(source, f"{n}", False).astype(int) - source).mean() for n in range(5)]
        )
        for s in (1, 5)
    ]
    assert changes[0] < changes[1]


def test_published_strengths() -> None:
    grey, rng = np.full((100, 100, 3), 0.5), np.random.default_rng(1)
    for severity, sigma in enumerate((0.08, 0.12, 0.18, 0.26, 0.38)):
        assert gaussian_noise(grey, severity, rng).std() == pytest.approx(sigma, rel=0.02)
    for severity, share in enumerate((0.03, 0.06, 0.09, 0.17, 0.27)):
        noisy = impulse_noise(grey, severity, rng)
        assert (noisy != 0.5).mean() == pytest.approx(share, abs=0.01)
        assert (noisy == 1).mean() == pytest.approx(share / 2, abs=0.01)
    x = PICTURE / 255
    assert np.allclose(contrast(x, 4, rng).std((0, 1)), 0.05 * x.std((0, 1)))
    assert np.allclose(motion_blur(grey, 2, rng), 0.5)
    assert np.allclose(saturate(x, 0, rng).max(2), x.max(2))  # the value stays
    less = saturate(x, 1, rng)
    assert np.allclose(less.max(2) - less.min(2), 0.1 * (x.max(2) - x.min(2)))


def test_infrared_noise_is_one_for_all_channels() -> None:
    """Of its published strength: the mean of three channels' noise would be weaker by the root of three."""
    grey = np.full((200, 100, 3), 128, np.uint8)
    noisy = Corrupt("gaussian_noise", severity=1, of="infrared")(grey, "a.jpg", True)
    assert noisy[..., 0].std() / 255 == pytest.approx(0.08, rel=0.03)


def test_weather_is_as_published() -> None:
    rng, grey = np.random.default_rng(1), np.full((200, 100, 3), 0.4)
    for severity, (share, darker) in enumerate(
        zip((770, 600, 600, 500, 500), (0.1, 0.15, 0.2, 0.25, 0.3), strict=True)
    ):
        wet = rain(grey, severity, rng)
        length = (10, 30, 30, 60, 60)[severity]
        assert np.median(wet) <= 0.4 - darker + 0.05
        drawn = (wet.mean() - (0.4 - darker)) / (200 / 255 - 0.4) * 200 * 100
        assert 0.7 < drawn / (200 * 100 // share * length) < 1.2, "so many drops of that length, but where they cross"
    muddy = spatter(grey, 4, rng)
    covered = np.abs(muddy - 0.4).max(2) > 1e-9
    assert 0.01 < covered.mean() < 0.9
    darkest = np.unravel_index(muddy.sum(2).argmin(), covered.shape)
    assert np.allclose(muddy[darkest], np.array([63, 42, 20]) / 255, atol=0.02)
    wet = spatter(grey, 0, rng)
    assert (wet >= 0.4 - 1e-9).all(), "water only adds light"
    assert np.isclose((wet - 0.4).max(), 0.6 * 238 / 255)
    assert np.allclose((wet - 0.4)[..., 0] * 238, (wet - 0.4)[..., 1] * 175)
    for severity in range(5):
        assert (snow(grey, severity, rng) >= 0.4 - 1e-9).all(), "snow only adds light"
    veins = frosted_glass(128, 64, rng)
    assert veins.std() > 0.1
    assert np.allclose(
        frost(grey, 4, np.random.default_rng(5)) - 0.6 * 0.4,
        0.75 * frosted_glass(200, 100, np.random.default_rng(5))[..., None],
    )


def test_edges_are_those_of_a_disc() -> None:
    rows, columns = np.mgrid[:40, :40]
    away = np.hypot(rows - 20, columns - 20)
    found = edges(np.where(away < 10, 200, 0).astype(np.uint8))
    assert found.sum() > 40
    assert np.abs(away[found] - 10).max() < 1.6
    assert not edges(np.where(away < 10, 9, 0).astype(np.uint8)).any(), "a step of 9 is below the lower bound"


def test_a_share_of_the_training_images_is_corrupted(sysu: Path) -> None:
    sizes = {"height": 24, "width": 12, "identities_per_batch": 4, "images_per_identity": 4}
    clean, data, again = (ReIDDataModule(SYSU(sysu), **sizes, corrupt_training=share) for share in (0, 0.5, 0.5))
    batches = []
    for one in (clean, data, again):
        one.setup()
        batches.append(next(iter(one.train_dataloader())))
    changed = (batches[0].images != batches[1].images).flatten(1).any(1)
    assert torch.equal(batches[1].images, batches[2].images)
    assert 2 <= changed.sum() <= 14
    assert torch.equal(next(iter(clean.test_dataloader())).images, next(iter(data.test_dataloader())).images)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    assert "50% of the training images had one of the 20 corruptions" in str(data.corrupt_training)


def test_all_draws_each_as_often() -> None:
    seen = {Corrupt(seed=seed)(SMOOTH[:8, :8], str(n), False).tobytes() for seed in (1, 2) for n in range(10)}
    assert len(seen) > 15
    assert "uniform over 20, severity uniform over 1 to 5" in str(Corrupt())


def test_test_images_alone_are_corrupted(sysu: Path) -> None:
    sizes = {"height": 24, "width": 12, "identities_per_batch": 2, "images_per_identity": 2}
    clean, data = (ReIDDataModule(SYSU(sysu), **sizes, corrupt=what) for what in (None, "contrast"))
    for one in (clean, data):
        one.setup()
    for loader in ("test_dataloader", "train_dataloader"):
        here, there = (next(iter(getattr(one, loader)())) for one in (clean, data))
        same = (here.images == there.images).flatten(1).all(1)
        assert torch.equal(same, here.infrared if loader == "test_dataloader" else torch.ones_like(same))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "mud"}, "corrupt is all or one of"),
        ({"severity": 6}, "between 1 and 5, got 6"),
        ({"of": "x"}, "of must be one of visible, infrared, both, got 'x'"),
    ],
)
def test_what_nobody_published_is_refused(wrong: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Corrupt(**wrong)
