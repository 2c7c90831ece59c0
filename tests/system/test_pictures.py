"""What decodes strangers' images in processes of their own starts there without torch; its pixels: tests/data."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpanet_pl.data.decode import decode
from mpanet_pl.system.pictures import resized


def test_pixels_need_no_torch() -> None:
    line = "import sys, mpanet_pl.system.pictures; print('torch' in sys.modules, 'scipy' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", line], check=True, capture_output=True, text=True).stdout
    assert told.split() == ["False", "False"]


STORED_AS = {  # EXIF's orientation: what was done to the upright picture before it was stored
    1: lambda picture: picture,
    2: lambda picture: picture[:, ::-1],
    3: lambda picture: picture[::-1, ::-1],
    4: lambda picture: picture[::-1],
    5: lambda picture: picture.transpose(1, 0, 2),
    6: lambda picture: np.rot90(picture),
    7: lambda picture: np.rot90(picture.transpose(1, 0, 2), 2),
    8: lambda picture: np.rot90(picture, -1),
}


@pytest.mark.parametrize("orientation", STORED_AS)
def test_a_turned_camera_s_picture_stands_upright(orientation: int, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED_AS[orientation](picture)))
    stored.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "turned.png", 12, 8), picture)
    with Image.open(tmp_path / "turned.png") as image:
        np.testing.assert_array_equal(resized(image, 12, 8), picture)
