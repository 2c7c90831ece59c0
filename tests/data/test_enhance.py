"""Random linear enhancement against the release's own results, its draws fed in place of ours."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mpanet_pl.data.augment import RELEASED_FILL, Augmentation
from mpanet_pl.data.boxes import RELEASED, Boxes
from mpanet_pl.data.enhance import PURPOSE, RADICAL_BETA, enhance, mix, scale_boxes
from mpanet_pl.data.normalisation import normalise, normalise_scaled, scaled
from mpanet_pl.data.randomness import betas, image_keys, uniforms

GOLDEN = Path(__file__).parents[1] / "golden/beyond"
FACTS = json.loads((GOLDEN / "rle.json").read_text())
STORED = np.load(GOLDEN / "rle.npz")
COLOURED = [case for case in FACTS["cases"] if case["input"] != "input_one_channel"]


def pixels_of(key: str) -> Tensor:
    return torch.from_numpy(STORED[key]).permute(1, 2, 0)[None]  # (1, H, W, 3)


def cases(transform: str) -> list[dict]:
    return [case for case in COLOURED if case["transform"].startswith(transform)]


def box(area: float, aspect: float, height: int, width: int) -> tuple[int, int]:
    """Height and width of a released draw; 0 where it does not fit."""
    h, w = round((area * height * width * aspect) ** 0.5), round((area * height * width / aspect) ** 0.5)
    return (h, w) if h < height and w < width else (0, 0)


def tries_of(draws: list, height: int, width: int) -> list[tuple[Boxes, Tensor]]:
    """The release's draws after its gate, try by try."""
    values, tries = iter(draws), []
    for (*_, area), (*_, aspect) in zip(values, values, strict=False):
        h, w = box(area, aspect, height, width)
        top, left, *maxima = (next(values)[3] for _ in range(5)) if h else (0, 0, 1.0, 1.0, 1.0)
        tries.append(
            (
                Boxes(*(torch.tensor([number]) for number in (top, left, h, w))),
                torch.tensor([maxima], dtype=torch.float64),
            )
        )
    return tries


@pytest.mark.parametrize("case", cases("Moderate"), ids=lambda case: case["key"])
def test_moderate_is_the_releases(case):
    (*_, gate), *weights = case["draws"]
    pixels = pixels_of(case["input"])
    result = (
        mix(pixels, torch.tensor([[value for *_, value in weights]], dtype=torch.float64)) if gate <= 0.5 else pixels
    )
    assert torch.allclose(result, pixels_of(case["key"]), atol=1e-13, rtol=0)


@pytest.mark.parametrize("case", [c for c in cases("Radical") if not c["has_nan"]], ids=lambda case: case["key"])
def test_radical_is_the_releases(case):
    (*_, gate), *draws = case["draws"]
    pixels = pixels_of(case["input"])
    tries = tries_of(draws, *pixels.shape[1:3])
    asked = []

    def draw(rows: Tensor, number: int) -> tuple[Boxes, Tensor]:
        asked.append(number)
        return tries[number]

    result = scale_boxes(pixels, torch.arange(1) if gate <= 0.5 else torch.arange(0), draw)
    assert torch.allclose(result, pixels_of(case["key"]), atol=1e-13, rtol=0)
    assert len(asked) == len(tries)  # and it ended where the release ends


def test_a_black_channel_stays_black_and_ends_nothing():
    """The release divides 0 by 0 here and goes on for its hundred tries with NaN."""
    (case,) = [case for case in COLOURED if case["has_nan"]]
    pixels = pixels_of(case["input"])
    tries = tries_of(case["draws"][1:], *pixels.shape[1:3])
    asked = []
    result = scale_boxes(pixels, torch.arange(1), lambda rows, number: asked.append(number) or tries[number])
    assert result.isfinite().all()
    assert torch.equal(result[..., 1], pixels[..., 1])
    assert len(asked) < len(tries)
    assert (result[..., [0, 2]] != pixels[..., [0, 2]]).any()


@pytest.mark.parametrize("case", cases("RandomErasing"), ids=lambda case: case["key"])
def test_erasing_is_the_releases(case):
    _, (*_, area), (*_, aspect), (*_, top), (*_, left) = case["draws"]
    pixels = pixels_of(case["input"])
    boxes = Boxes(*(torch.tensor([number]) for number in (top, left, *box(area, aspect, *pixels.shape[1:3]))))
    assert torch.equal(boxes.fill_(pixels.clone(), RELEASED_FILL), pixels_of(case["key"]))


def test_as_many_boxes_are_scaled_as_in_the_release():
    count = 3000
    pixels = torch.from_numpy(np.random.default_rng(0).random((count, 24, 12, 3), dtype=np.float32))
    boxes = torch.zeros(count, dtype=torch.int64)

    keys = image_keys(1, 0, torch.arange(count))

    def draw(rows: Tensor, number: int) -> tuple[Boxes, Tensor]:
        purpose = PURPOSE + 2 + 2 * number
        drawn = RELEASED.one(uniforms(keys[rows], 4, purpose), 24, 12)
        boxes[rows] += drawn.height > 0
        return drawn, betas(keys[rows], 3, RADICAL_BETA, purpose + 1)

    scale_boxes(pixels, torch.arange(count), draw)
    found = boxes.bincount(minlength=5)[1:5] / count
    published = [FACTS["boxes_per_applied_radical_3000_runs"][str(number)] for number in (1, 2, 3, 4)]
    assert torch.allclose(found, torch.tensor(published), atol=0.04)


def test_the_augmentation_enhances_before_it_normalises():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 3, 20, 12), dtype=np.uint8))
    index, infrared = torch.arange(64), torch.arange(64) % 2 == 0
    augmentation = Augmentation(rle=True, flip=0, pad=0)
    result = augmentation(images, index, infrared, seed=1, epoch=0)
    keys, pixels = image_keys(1, 0, index), scaled(images.permute(0, 2, 3, 1))
    enhanced = enhance(pixels, keys)
    assert enhanced.min() >= 0
    assert enhanced.max() <= 1
    expected = normalise_scaled(augmentation.draw_erased(keys, 20, 12).fill_(enhanced.clone(), RELEASED_FILL))
    assert torch.equal(result, expected.permute(0, 3, 1, 2))
    untouched = (result == normalise(images)).flatten(1).all(1).float().mean()
    assert untouched == pytest.approx(1 / 8, abs=0.1)
    part = augmentation(images[40:], index[40:], infrared[40:], seed=1, epoch=0)
    assert torch.equal(part, result[40:])  # whoever else is in the batch


def test_each_box_is_drawn_by_numbers_of_its_own(monkeypatch):
    asked = []
    monkeypatch.setattr("mpanet_pl.data.enhance.uniforms", lambda *of: asked.append(of[-1]) or uniforms(*of))
    monkeypatch.setattr("mpanet_pl.data.enhance.betas", lambda *of: asked.append(of[-1]) or betas(*of))
    enhance(torch.rand(64, 24, 12, 3, generator=torch.Generator().manual_seed(0)), image_keys(1, 0, torch.arange(64)))
    assert len(asked) > 4
    assert sorted(asked) == list(range(PURPOSE, PURPOSE + len(asked)))
