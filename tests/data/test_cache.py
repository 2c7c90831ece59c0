import errno
import os
import pickle
import platform
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trees import draw_image

from mpanet_pl.data import cache as cache_module
from mpanet_pl.data import images as images_module
from mpanet_pl.data.cache import cache_folder, open_images
from mpanet_pl.errors import UserError

HEIGHT, WIDTH = 24, 12
PATHS = [f"cam{camera}/{name}.jpg" for camera in (3, 1) for name in ("b", "a", "c")]
ALL = torch.arange(len(PATHS))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "dataset"
    for number, path in enumerate(PATHS):
        draw_image(root / path, number, infrared="cam3" in path)
    return root


def read(root: Path, cache: bool | Path = True, paths: list[str] = PATHS) -> torch.Tensor:
    return open_images(root, paths, HEIGHT, WIDTH, cache=cache)[torch.arange(len(paths))]


def caches(root: Path) -> list[Path]:
    return sorted(path for path in cache_folder(root, True).iterdir() if path.suffix not in ("", ".paths"))


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(images_module, "decode", decode)


def test_images_equal_the_files_read_by_hand(root: Path) -> None:
    by_hand = [
        Image.open(root / path).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR) for path in PATHS
    ]
    expected = torch.from_numpy(np.stack([np.asarray(image) for image in by_hand])).permute(0, 3, 1, 2)
    assert torch.equal(read(root), expected)
    assert torch.equal(read(root, cache=False), expected)


@pytest.mark.parametrize("cache", [True, False])
def test_a_batch_is_gathered_by_number(root: Path, cache: bool) -> None:
    images = open_images(root, PATHS, HEIGHT, WIDTH, cache=cache)
    batch = images[torch.tensor([4, 0, 4])]
    assert len(images) == len(PATHS)
    assert (batch.shape, batch.dtype) == ((3, 3, HEIGHT, WIDTH), torch.uint8)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, read(root)[[4, 0, 4]])
    assert images[ALL[:0]].shape == (0, 3, HEIGHT, WIDTH)
    with pytest.raises(IndexError):
        images[torch.tensor([len(PATHS)])]


def test_a_split_sees_its_own_numbers(root: Path) -> None:
    images = open_images(root, PATHS, HEIGHT, WIDTH)
    part = images.of(PATHS[3:1:-1])
    assert torch.equal(part[torch.arange(2)], images[torch.tensor([3, 2])])


def test_the_cache_is_a_plain_npy_file_in_the_order_of_paths(root: Path) -> None:
    images = read(root)
    (file,) = caches(root)
    stored = np.load(file)
    order = sorted(range(len(PATHS)), key=PATHS.__getitem__)
    np.testing.assert_array_equal(stored, images[order].permute(0, 2, 3, 1).numpy())


def test_a_finished_cache_decodes_nothing_whatever_the_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = read(root)
    no_decoding(monkeypatch)
    assert torch.equal(read(root, paths=PATHS[::-1]), images.flip(0))


def _repaint(root: Path) -> None:
    draw_image(root / PATHS[1], 99, infrared=False)


def _touch(root: Path) -> None:
    os.utime(root / PATHS[1], ns=(1, 1))


def _same_size_other_pixels(root: Path) -> None:
    path = root / PATHS[1]
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def _swap_with_a_twin(root: Path) -> None:
    """Another file of the same size and time of change is renamed over it."""
    path, twin = root / PATHS[1], root / "twin.jpg"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    twin.write_bytes(content)
    os.utime(twin, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    twin.replace(path)


@pytest.mark.parametrize("change", [_repaint, _touch, _same_size_other_pixels, _swap_with_a_twin])
def test_a_changed_image_rebuilds_the_cache(root: Path, change) -> None:
    read(root)
    before = caches(root)
    change(root)
    assert torch.equal(read(root), read(root, cache=False))
    assert len(caches(root)) == 1
    assert caches(root) != before


def test_added_and_removed_images_rebuild_it(root: Path) -> None:
    read(root)
    draw_image(root / "cam1/new.jpg", 50, infrared=False)
    more = [*PATHS, "cam1/new.jpg"]
    assert torch.equal(read(root, paths=more), read(root, False, more))
    fewer = PATHS[1:]
    (root / PATHS[0]).unlink()
    assert torch.equal(read(root, paths=fewer), read(root, False, fewer))
    assert len(caches(root)) == 1


def test_other_sizes_live_side_by_side(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(root)
    open_images(root, PATHS, WIDTH, HEIGHT)
    assert len(caches(root)) == 2
    no_decoding(monkeypatch)
    read(root)


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "header", "other shape"])
def test_a_damaged_cache_is_built_anew(root: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    images = read(root)
    (file,) = caches(root)
    whole = file.read_bytes()
    match damage:
        case "other shape":
            np.save(file, np.zeros((2, HEIGHT, WIDTH, 3), np.uint8))
        case _:
            file.write_bytes(
                {"cut": whole[:-1], "empty": b"", "longer": whole + b"x", "header": b"x" * len(whole)}[damage]
            )
    assert torch.equal(read(root), images)
    assert file.read_bytes() == whole
    assert str(file) in caplog.text


@pytest.mark.parametrize("cache", [True, False])
def test_unreadable_images_are_named(root: Path, cache: bool) -> None:
    (root / PATHS[1]).write_bytes((root / PATHS[1]).read_bytes()[:300])
    (root / PATHS[2]).write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read") as caught:
        read(root, cache)
    assert PATHS[1] in str(caught.value)
    if cache:
        assert PATHS[2] in str(caught.value)
        assert caches(root) == []


def test_missing_images_are_named(root: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 8 images of .* are missing: gone\.jpg, too\.jpg"):
        read(root, paths=[*PATHS, "gone.jpg", "too.jpg"])


def test_a_disk_without_room_is_told_before_anything_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(10))
    no_decoding(monkeypatch)
    with pytest.raises(UserError, match=r"it needs 0 MB, and 0 MB are free\. Put it elsewhere \(data\.cache=PATH\)"):
        read(root)
    assert caches(root) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_runs_full_leaves_nothing_behind(root: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fsync(file: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match=os.strerror(number)):
        read(root)
    assert caches(root) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_what_the_disk_refuses_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_folder(root, True).mkdir()
    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *mode: real(Path("/dev/full") if path.suffix == ".building" else path, *mode)
    )
    with pytest.raises(UserError, match=r"cannot be kept in .*: No space left on device\. Put it elsewhere"):
        read(root)
    assert caches(root) == []


def test_a_folder_that_cannot_be_written_names_the_way_out(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be kept in .*/file/.* Put it elsewhere \(data\.cache=PATH\)"):
        read(root, tmp_path / "file")


def test_a_finished_cache_needs_no_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = read(root)
    monkeypatch.setattr(cache_module, "in_turn", None)  # as good as a folder that cannot be written
    assert torch.equal(read(root), images)


def test_datasets_of_one_name_share_a_place_without_meeting(root: Path, tmp_path: Path) -> None:
    twin = tmp_path / "other/dataset"
    for number, path in enumerate(PATHS):
        draw_image(twin / path, 10 + number, infrared=False)
    for _ in range(2):
        assert torch.equal(read(root, tmp_path / "caches"), read(root, False))
        assert torch.equal(read(twin, tmp_path / "caches"), read(twin, False))
    assert not (root / ".mpanet_cache").exists()
    assert len(list((tmp_path / "caches").glob("*/*.npy"))) == 2


def test_images_travel_to_another_process_by_name(root: Path) -> None:
    images = open_images(root, PATHS, HEIGHT, WIDTH)
    sent = pickle.dumps(images)
    assert len(sent) < 2000
    assert torch.equal(pickle.loads(sent)[ALL], images[ALL])
    _repaint(root)
    read(root)
    with pytest.raises(UserError, match="was removed or replaced while this run used it"):
        pickle.loads(sent)
    assert images[ALL].shape == (len(PATHS), 3, HEIGHT, WIDTH)  # who has it open keeps it


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it")
def test_gathering_leaves_no_page_in_this_process(root: Path) -> None:
    images = open_images(root, PATHS, HEIGHT, WIDTH)
    images[ALL]
    (file,) = caches(root)
    maps = Path("/proc/self/smaps").read_text().split(str(file))
    assert len(maps) > 1
    assert [rest.split("Rss:")[1].split()[0] for rest in maps[1:]] == ["0"] * (len(maps) - 1)


def test_two_runs_at_once_build_it_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    real = images_module.decode
    monkeypatch.setattr(images_module, "decode", lambda *asked: decoded.append(asked) or real(*asked))
    found: list[torch.Tensor] = []
    runs = [threading.Thread(target=lambda: found.append(read(root))) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(decoded) == len(PATHS)
    assert len(found) == 4
    assert all(torch.equal(images, read(root, cache=False)) for images in found)


def test_what_a_dead_builder_left_is_cleared(root: Path) -> None:
    folder = cache_folder(root, True)
    folder.mkdir()
    (folder / "24x12-0123.building").write_bytes(b"half")
    (folder / "99x99-0123.building").write_bytes(b"half")
    read(root)
    assert [path.suffix for path in caches(root)] == [".npy"]


def test_a_part_of_the_images_leaves_the_cache_of_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(root)
    read(root, paths=PATHS[:2])
    assert len(caches(root)) == 2
    no_decoding(monkeypatch)
    read(root)


def test_machines_with_copies_of_their_own_share_a_place(root: Path, tmp_path: Path, monkeypatch) -> None:
    """The same path holds another copy on each machine: its files' times differ."""
    shared = tmp_path / "caches"
    read(root, shared)
    with monkeypatch.context() as patch:
        patch.setattr(platform, "node", lambda: "another")
        for path in PATHS:
            os.utime(root / path, ns=(1, 1))
        read(root, shared)
        assert len(list(shared.glob("*/*.npy"))) == 2
        _repaint(root)
        read(root, shared)  # takes the place of its own
    assert len(list(shared.glob("*/*.npy"))) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("cache", [True, False])
def test_a_pipe_is_no_image(root: Path, cache: bool) -> None:
    (root / PATHS[1]).unlink()
    os.mkfifo(root / PATHS[1])
    with pytest.raises(UserError, match="it is no regular file"):
        read(root, cache)


@pytest.mark.parametrize("index", [-1, len(PATHS)])
def test_an_image_is_asked_for_by_its_number(root: Path, index: int) -> None:
    with pytest.raises(IndexError, match=rf"Images have the numbers 0 to 5, got \[0, {index}\]"):
        open_images(root, PATHS, HEIGHT, WIDTH)[torch.tensor([0, index])]


@pytest.mark.slow
def test_builders_killed_at_work_leave_no_broken_cache() -> None:
    script = Path(__file__).parents[2] / "scripts" / "kill_cache.py"
    command = [sys.executable, str(script), "--kills", "3", "--images", "300"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "3 builders killed at work" in done.stdout
