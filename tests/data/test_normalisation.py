"""The numbers of ImageNet's statistics, written out: a test that imports a constant cannot notice that it is wrong."""

import numpy as np
import torch

from mpanet_pl.data.normalisation import Normalise, normalise, normalised

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of red, green and blue, from 0 to 1


def test_pixels_are_normalised_by_their_channels_numbers() -> None:
    pixels = np.arange(0, 252, 7, dtype=np.uint8).reshape(1, 4, 3, 3)  # (B, H, W, 3)
    expected = torch.from_numpy((pixels / 255 - MEAN) / STD)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    for found in (
        normalised(torch.from_numpy(pixels)),
        *(one(images).permute(0, 2, 3, 1) for one in (normalise, Normalise())),
    ):
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
