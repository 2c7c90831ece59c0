import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpanet_pl.data.decode import Unreadable, decode, in_threads, read_rgb

COLOURS = np.random.default_rng(0).integers(0, 256, (20, 10, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]


def test_pixels_are_those_of_the_released_pipeline(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg")
    expected = Image.open(tmp_path / "a.jpg").convert("RGB").resize((8, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(decode(tmp_path / "a.jpg", 16, 8), np.asarray(expected))


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_a_grey_image_has_three_equal_channels(tmp_path: Path, mode: str) -> None:
    Image.fromarray(GREY).convert(mode).save(tmp_path / "a.png")
    pixels = decode(tmp_path / "a.png", 16, 8)
    assert pixels.shape == (16, 8, 3)
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    colour = (204, 51, 102)  # of the web palette
    Image.new("RGB", (10, 20), colour).convert(mode, dither=Image.Dither.NONE).save(tmp_path / "a.tif")
    assert np.abs(decode(tmp_path / "a.tif", 16, 8).astype(int) - colour).max() <= 2


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_eight_bits_in_a_deep_image_stay_what_they_are(tmp_path: Path, kind: type) -> None:
    Image.fromarray(GREY.astype(kind)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / "a.tif"))[..., 0], GREY)


def test_pixels_of_no_known_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.float32) / 255).save(tmp_path / "a.tif")
    with pytest.raises(Unreadable, match="no known range"):
        read_rgb(tmp_path / "a.tif")


def test_a_transparent_palette_warns_nobody(tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS).quantize(8)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 255, 255, 255, 255, 255]))
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / "a.png")), np.asarray(image.convert("RGB")))


def test_sixteen_bits_keep_their_upper_eight(tmp_path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint16) * 256 + 77).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(read_rgb(tmp_path / "a.png"))[..., 0], GREY)


def test_orientation_in_exif_is_followed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg", exif=exif)
    assert read_rgb(tmp_path / "a.jpg").size == (20, 10), "a picture that is stored lying stands"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp"])
@pytest.mark.parametrize("damage", ["empty", "cut", "text", "missing", "folder"])
def test_a_broken_file_says_so(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(COLOURS).save(path)
    whole = path.read_bytes()
    path.unlink()
    match damage:
        case "empty" | "cut" | "text":
            path.write_bytes({"empty": b"", "cut": whole[: len(whole) * 2 // 3], "text": b"not an image"}[damage])
        case "folder":
            path.mkdir()
    with pytest.raises(Unreadable):
        decode(path, 16, 8)


def test_a_format_for_which_pillow_may_start_a_program_is_not_opened(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg", format="EPS")
    with pytest.raises(Unreadable, match="cannot identify"):
        read_rgb(tmp_path / "a.jpg")


def test_threads_keep_the_order_and_stop_at_an_error() -> None:
    assert list(in_threads(str, range(100), workers=3)) == [str(number) for number in range(100)]
    seen = []

    def work(number: int) -> int:
        seen.append(threading.current_thread())
        return 1 // (5 - number)

    with pytest.raises(ZeroDivisionError):
        list(in_threads(work, range(10_000), workers=2))
    assert len(seen) < 10_000
