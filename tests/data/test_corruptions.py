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
from mpanet_pl.errors import UserError

PICTURE = np.random.default_rng(1).integers(40, 216, (48, 24, 3)).astype(np.uint8)
SMOOTH = np.linspace(40, 200, 48 * 24 * 3).reshape(48, 24, 3).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_is_a_function_of_the_path(name: str) -> None:
    corrupt = Corrupt(name, severity=3)
    once = corrupt(PICTURE, "a.jpg", False)
    assert once.shape == PICTURE.shape
    assert once.dtype == np.uint8
    assert np.array_equal(once, corrupt(PICTURE, "a.jpg", False))
    assert not np.array_equal(once, PICTURE)
    assert np.array_equal(corrupt(PICTURE, "a.jpg", True), PICTURE)  # infrared images stay
    grey = np.repeat(PICTURE[..., :1], 3, axis=2)
    infrared = Corrupt(name, severity=3, of="infrared")(grey, "a.jpg", True)
    assert (infrared == infrared[..., :1]).all()


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


def test_all_draws_each_as_often() -> None:
    seen = {Corrupt(seed=seed)(SMOOTH[:8, :8], str(n), False).tobytes() for seed in (1, 2) for n in range(10)}
    assert len(seen) > 15
    assert "uniform over 16, severity uniform over 1 to 5" in str(Corrupt())


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
        ({"severity": 6}, "1 to 5, got 6"),
        ({"of": "x"}, "corrupted is one of"),
    ],
)
def test_what_nobody_published_is_refused(wrong: dict, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Corrupt(**wrong)
