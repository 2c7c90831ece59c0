"""CAJ's augmentation against the release's own results, its draws fed in place of ours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mpanet_pl.data import channels
from mpanet_pl.data.augment import RELEASED_FILL, Augmentation, Draws
from mpanet_pl.data.boxes import RELEASED, Boxes
from mpanet_pl.data.normalisation import normalised
from mpanet_pl.data.randomness import image_keys

GOLDEN = Path(__file__).parents[1] / "golden/beyond"
FACTS = json.loads((GOLDEN / "caj.json").read_text())
STORED = np.load(GOLDEN / "caj.npz")
SHOWS_A_CHANNEL = [case for case in FACTS["cases"] if "Erasing" not in case["transform"]]
ERASES = [case for case in FACTS["cases"] if "Erasing" in case["transform"] and case["input"] == "input_normalised"]


def pixels_of(key: str) -> Tensor:
    return torch.from_numpy(STORED[key]).permute(1, 2, 0)[None]  # (1, H, W, 3)


def shown(transform: str, draws: list[list[Any]]) -> int:
    """What these draws make of the release's transforms, in our words."""
    which = draws[0][3]
    if transform.startswith("ChannelExchange"):
        return which  # 3 is grey
    if which < 3:
        return which
    if transform == "ChannelAdap":
        return channels.UNCHANGED
    return channels.GREY if draws[1][3] <= 0.5 else channels.UNCHANGED


def erased(draws: list[list[Any]], height: int, width: int) -> Boxes:
    """The box of the release's draws, gate first, through our own law; empty where the gate stays shut."""
    (*_, gate), *tries = draws
    if gate > 0.5:
        return Boxes(*torch.zeros(4, 1, dtype=torch.int64))
    *tries, top, left = tries
    uniform = [(value - low) / (high - low) for _, low, high, value in tries]
    places = [(value + 0.5) / (high + 1) for _, _, high, value in (top, left)]
    return RELEASED.one(torch.tensor([[*places, *uniform[::2], *uniform[1::2]]], dtype=torch.float64), height, width)


@pytest.mark.parametrize("case", SHOWS_A_CHANNEL, ids=lambda case: case["key"])
def test_channels_are_the_releases(case):
    result = channels.show(pixels_of(case["input"]), torch.tensor([shown(case["transform"], case["draws"])]))
    assert torch.allclose(result, pixels_of(case["key"]), atol=1e-13, rtol=0)


@pytest.mark.parametrize("case", ERASES, ids=lambda case: case["key"])
def test_erasing_is_the_releases(case):
    pixels = pixels_of(case["input"])
    boxes = erased(case["draws"], *pixels.shape[1:3])
    assert torch.equal(boxes.fill_(pixels.clone(), RELEASED_FILL), pixels_of(case["key"]))


@pytest.mark.parametrize("stream", FACTS["streams"], ids=lambda stream: stream["key"])
def test_whole_streams_are_the_releases(stream):
    y, x, c = np.ogrid[:288, :144, :3]
    k = stream["made_image_k"]
    made = ((7 * y + 13 * x + 31 * c + 5 * ((y * x) % 17) + 29 * k) % 256).astype(np.uint8)
    if stream["stream"] == "thermal":
        made = made[..., :1].repeat(3, axis=2)
    top, left, flip = (draw["value"] for draw in stream["geometric_draws"])
    # the release pads before it flips, we flip before we pad: the crop's corner is then seen from the other side
    left = 20 - left if flip < 0.5 else left
    decided = Draws(*(torch.tensor([value]) for value in (flip < 0.5, top, left, False, -1)))
    augmentation = Augmentation(caj=True, fill=0)
    moved = augmentation.move(torch.from_numpy(made)[None], decided)
    if flip < 0.5:  # crop, then flip, is flip, then crop from the other side
        assert torch.equal(moved[0], torch.from_numpy(flipped_crop(made, top, 20 - left)))
    draws = stream["draws"]
    of_erasing = draws[: next((n for n, draw in enumerate(draws) if n and draw[2] in (2, 3)), len(draws))]
    boxes = erased(of_erasing, 288, 144)
    of_channel = draws[len(of_erasing) :]
    transform = {"visible_augmented": "ChannelExchange(gray=2)", "thermal": "ChannelAdapGray(probability=0.5)"}
    channel = shown(transform[stream["stream"]], of_channel) if of_channel else channels.UNCHANGED
    result = channels.show(boxes.fill_(normalised(moved), RELEASED_FILL), torch.tensor([channel]))
    stored = torch.from_numpy(STORED[stream["key"]])
    assert torch.allclose(result[0].permute(2, 0, 1)[:, ::12, ::12], stored, atol=1e-6, rtol=0)


def flipped_crop(image: np.ndarray, top: int, left: int) -> np.ndarray:
    padded = np.pad(image, ((10, 10), (10, 10), (0, 0)))
    return padded[top : top + 288, left : left + 144][:, ::-1].copy()


def test_channels_are_drawn_as_often_as_in_the_release():
    keys, infrared = image_keys(1, 0, torch.arange(40_000)), torch.arange(40_000) % 2 == 0
    drawn = channels.draw(keys, infrared, view=1)
    thermal, visible = ((drawn[rows] + 1).bincount(minlength=5) / 20_000 for rows in (infrared, ~infrared))
    assert torch.allclose(thermal, torch.tensor([1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8]), atol=0.012)
    assert torch.allclose(visible, torch.tensor([0, 1 / 3, 1 / 3, 1 / 3, 0]), atol=0.012)
    assert (channels.draw(keys, infrared, view=0)[~infrared] == channels.UNCHANGED).all()
    alone = (channels.draw(keys, infrared, view=None)[~infrared] + 1).bincount(minlength=5) / 20_000
    assert torch.allclose(alone, torch.tensor([1 / 2, 1 / 6, 1 / 6, 1 / 6, 0]), atol=0.012)


def test_the_augmentation_is_erasing_then_channels():
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (64, 20, 12, 3), dtype=np.uint8))
    augmentation = Augmentation(caj=True, flip=0, pad=0, erase=1)
    index, infrared = torch.arange(64), torch.arange(64) % 2 == 0
    result = augmentation(images.permute(0, 3, 1, 2), index, infrared, seed=3, epoch=2, view=1)
    keys = image_keys(3, 2, index, view=1)
    boxes = augmentation.draw_erased(keys, 20, 12)
    expected = channels.show(boxes.fill_(normalised(images), RELEASED_FILL), channels.draw(keys, infrared, 1))
    assert boxes.height.all()
    assert torch.equal(result, expected.permute(0, 3, 1, 2))
