"""Pictures of strangers: which kinds are read, where pictures may lie, and what ends a process that decodes."""

import asyncio
import io
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from mpanet_pl.errors import UserError
from mpanet_pl.gallery import uploads
from mpanet_pl.gallery.bounded_images import below, thumbnail_below
from mpanet_pl.gallery.uploads import Decoder, pixels_of
from mpanet_pl.system.pictures import Unreadable, resized

CROP = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8))
BOX = (16, 32)


def stored(image: Image.Image, kind: str, **words: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **words)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_these_kinds_are_read_as_training_reads_them(kind: str) -> None:
    body = stored(CROP, kind)
    np.testing.assert_array_equal(pixels_of(body, 16, 8), resized(Image.open(io.BytesIO(body)), 16, 8))


@pytest.mark.parametrize("kind", ["EPS", "DDS", "SGI", "PCX", "JPEG2000", "GIF", "ICNS", "PPM", "TGA"])
def test_no_other_kind_reaches_a_decoder(kind: str) -> None:
    image = CROP.resize((16, 16)) if kind == "ICNS" else CROP
    with pytest.raises(Unreadable, match="no JPEG, PNG, WEBP, BMP or TIFF"):
        pixels_of(stored(image, kind), 16, 8)


def test_only_the_first_page_of_very_many_is_looked_at() -> None:
    """In a file whose pages form a circle, whoever counts them counts for ever."""
    page = stored(CROP, "TIFF")
    first = int.from_bytes(page[4:8], "little")
    following = first + 2 + 12 * int.from_bytes(page[first : first + 2], "little")
    circle = page[:following] + first.to_bytes(4, "little") + page[following + 4 :]
    np.testing.assert_array_equal(pixels_of(circle, 16, 8), pixels_of(page, 16, 8))


def test_a_picture_stands_upright_and_has_so_many_pixels_at_most() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    lying = CROP.transpose(Image.Transpose.ROTATE_90)
    np.testing.assert_array_equal(pixels_of(stored(lying, "PNG", exif=exif), 40, 20), np.asarray(CROP))
    with pytest.raises(Unreadable, match="64 megapixels are more than the 50"):
        pixels_of(stored(Image.new("1", (8000, 8000)), "PNG"), 16, 8)
    for broken in (stored(CROP, "PNG")[:200], stored(CROP, "JPEG")[:300]):
        with pytest.raises(Unreadable):
            pixels_of(broken, 16, 8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/day").mkdir(parents=True)
    CROP.save(tmp_path / "root/day/1.png")
    CROP.save(tmp_path / "passport.png")
    (tmp_path / "root/out.png").symlink_to(tmp_path / "passport.png")
    (tmp_path / "root/in.png").symlink_to(tmp_path / "root/day/1.png")
    (tmp_path / "root/folder").symlink_to(tmp_path)
    (tmp_path / "root/circle.png").symlink_to("circle.png")
    (tmp_path / "root/text.png").write_text("secret")
    os.mkfifo(tmp_path / "root/pipe.png")
    return tmp_path / "root"


def test_thumbnails_are_of_files_below_the_root(root: Path) -> None:
    for name in ("day/1.png", "day/../day/1.png", "in.png"):
        assert below(str(root), name) == root / "day/1.png"
        small = Image.open(io.BytesIO(thumbnail_below(str(root), name, BOX) or b""))
        assert (small.format, small.size) == ("JPEG", (16, 32))
    outside = ["../passport.png", "out.png", "folder/passport.png", str(root / "day/1.png"), "/proc/self/mem"]
    outside += ["day/1.png\0", "a" * 100_000, "a/" * 2000, "circle.png", "", ".", "..", "gone.png", "\ud800.png"]
    assert {below(str(root), name) for name in outside} == {None}
    assert {thumbnail_below(str(root), name, BOX) for name in [*outside, "day", "text.png", "pipe.png"]} == {None}
    assert thumbnail_below(str(root / "gone"), "1.png", BOX) is None


@pytest.fixture(scope="module")
def decode() -> Iterator[Callable[[Callable[[Decoder], Coroutine[Any, Any, Any]]], Any]]:
    decoder = Decoder(processes=2, seconds=1.0)
    decoder.start()
    with asyncio.Runner() as runner:
        yield lambda work: runner.run(work(decoder))
    decoder.stop()


def test_a_process_that_takes_too_long_is_killed_and_the_next_is_served(decode: Any) -> None:
    async def work(decoder: Decoder) -> None:
        late = asyncio.create_task(decoder.run("a", time.sleep, 60))
        started = time.monotonic()
        pixels = await decoder.pixels("b", stored(CROP, "PNG"), 16, 8)  # meanwhile
        np.testing.assert_array_equal(pixels, pixels_of(stored(CROP, "PNG"), 16, 8))
        with pytest.raises(UserError, match="longer than 1 s"):
            await late
        assert time.monotonic() - started < 20

    decode(work)


def test_no_process_takes_all_memory_writes_or_takes_the_others_with_it(decode: Any, tmp_path: Path) -> None:
    async def work(decoder: Decoder) -> None:
        with pytest.raises(UserError, match="too much memory"):
            await decoder.run("a", bytearray, 2**32)
        with pytest.raises(OSError, match="large"):
            await decoder.run("a", (tmp_path / "written").write_bytes, b"x" * 10_000)
        with pytest.raises(UserError, match="cannot be read"):
            await decoder.run("a", signal.raise_signal, signal.SIGKILL)
        with pytest.raises(UserError, match="The image cannot be read: it is no JPEG"):
            await decoder.pixels("a", b"garbage", 16, 8)
        assert (await decoder.pixels("a", stored(CROP, "PNG"), 16, 8)).shape == (16, 8, 3)

    decode(work)


def test_one_client_leaves_a_process_to_others(decode: Any) -> None:
    async def work(decoder: Decoder) -> None:
        greedy = [asyncio.create_task(decoder.run("a", time.sleep, 0.5)) for _ in range(4)]
        await asyncio.sleep(0)
        started = time.monotonic()
        await decoder.run("b", time.sleep, 0)
        waited = time.monotonic() - started
        await asyncio.gather(*greedy)
        assert waited < time.monotonic() - started - 0.9

    decode(work)


def test_who_leaves_ends_the_work(decode: Any) -> None:
    async def work(decoder: Decoder) -> None:
        left = asyncio.create_task(decoder.run("a", time.sleep, 0.9))
        await asyncio.sleep(0.2)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert await decoder.thumbnails("a", Path("/"), [], BOX) == []
        assert await decoder.thumbnails("a", Path("/"), ["nothing.png"], BOX) == [None]

    decode(work)


def test_a_pool_whose_processes_were_killed_is_ended_and_another_one_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    killed, fresh, done = Mock(active=False), Mock(active=True), Future[bytes]()
    done.set_result(b"decoded")
    fresh.schedule.return_value = done
    monkeypatch.setattr(uploads, "ProcessPool", Mock(side_effect=[killed, fresh]))
    decoder = Decoder(processes=2)
    decoder.start()
    assert asyncio.run(decoder.run("a", bytes)) == b"decoded"
    killed.stop.assert_called_once()
    killed.schedule.assert_not_called()
