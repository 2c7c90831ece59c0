"""From a video and a tracker's text to a gallery that finds people across cameras; drawn with PyAV."""

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import type_in
from scripts_of import script

from mpanet_pl.embed import embed as door
from mpanet_pl.errors import UserError
from mpanet_pl.gallery import footage
from mpanet_pl.gallery.footage import Box, chosen, extract, read_tracks
from mpanet_pl.gallery.searching import queries_of, search, table_of
from mpanet_pl.gallery.store import Gallery
from mpanet_pl.synthesize import synthesize

av = pytest.importorskip("av")

PEOPLE = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 220], [210, 200, 30]])  # a colour each, brighter from left
FRAMES = 20


def draw_video(path: Path, *, night: bool = False, frames: int = FRAMES) -> Path:
    """Four people that walk down, each a block of two stripes, and a tracker's text."""
    rng = np.random.default_rng(3)
    lines = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 160, 96, "yuv420p", 4_000_000
        for number in range(frames):
            picture = np.full((96, 160, 3), (90, 110, 130), np.uint8)
            for person, colour in enumerate(PEOPLE):
                left, top = 8 + 38 * person, 4 + number
                picture[top : top + 48, left : left + 24] = colour
                picture[top + 24 : top + 32, left : left + 24] = 250 - 60 * person
                lines.append(f"{number + 1},{person},{left},{top},24,48,0.9,-1,-1,-1")
            if night:
                picture[:] = picture.mean(2, keepdims=True)
            picture = np.clip(picture + rng.integers(-2, 3, (96, 160, 1)), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    path.with_suffix(".txt").write_text("\n".join(lines) + "\n")
    return path


def rows(table: Path) -> list[list[str]]:
    return [line.split(",") for line in table.read_text().splitlines()[1:]]


def test_crops_are_the_boxes_of_six_strips(tmp_path: Path) -> None:
    from PIL import Image

    video = draw_video(tmp_path / "cam1.mp4")
    made = extract(video, video.with_suffix(".txt"), tmp_path / "crops", start=1000.0)
    listed = rows(made.table)
    frames = [1, 5, 9, 13, 17, 20]  # the first of strips of ceil(20 / 6), the last filled up
    assert len(listed) == 4 * len(frames)
    for path, camera, time, modality, track in listed:
        person, frame = (int(part) for part in Path(path).stem.split("_"))
        assert (camera, modality, track) == ("cam1", "visible", f"cam1:{person}")
        assert frame in frames
        assert float(time) == pytest.approx(1000 + (frame - 1) / 10, abs=2e-3)
        with Image.open(tmp_path / "crops" / path) as image:
            assert image.size == (24, 48)
            assert np.abs(np.asarray(image)[4:20, 4:20].mean((0, 1)) - PEOPLE[person]).max() < 25
    assert "4 tracklets of cam1.mp4 look like day (visible), 0 like night" in " ".join(made.notes)
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "crops").rglob("*"))]
    assert extract(video, video.with_suffix(".txt"), tmp_path / "crops", start=1000.0) == made
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "crops").rglob("*"))] == stamps


@pytest.mark.parametrize("count", range(1, 41))
def test_strips_are_those_of_the_padded_list(count: int) -> None:
    """The definition: the list is filled up with its last frame to a multiple of six; the first of each strip."""
    frames = [3 * number + 1 for number in range(count)]
    padded = frames + frames[-1:] * (-count % 6)
    strips = [padded[start] for start in range(0, len(padded), len(padded) // 6)]
    assert [box.frame for box in chosen([Box(frame, 0, 0, 0, 9, 9) for frame in frames])] == sorted(set(strips))


def test_night_is_seen_by_its_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    video = draw_video(tmp_path / "cam2.mp4", night=True)
    night = extract(video, video.with_suffix(".txt"), tmp_path / "crops")
    assert {row[3] for row in rows(night.table)} == {"infrared"}
    said = extract("~/cam2.mp4", "~/cam2.txt", "~/said", modality="visible", camera="7")
    assert {(row[1], row[3]) for row in rows(said.table)} == {("7", "visible")}
    with pytest.raises(UserError, match="modality is visible or infrared"):
        extract(video, video.with_suffix(".txt"), tmp_path / "said", modality="radar")


def test_a_broken_video_keeps_what_was_read(tmp_path: Path) -> None:
    video = draw_video(tmp_path / "cam1.avi")
    content = video.read_bytes()
    video.write_bytes(content[: len(content) // 2])
    made = extract(video, video.with_suffix(".txt"), tmp_path / "crops")
    kept = {int(row[0].rpartition("_")[2][:-4]) for row in rows(made.table)}
    assert 1 in kept
    assert 17 not in kept
    assert "boxes are of frames that cam1.avi does not have or that could not be read" in " ".join(made.notes)
    video.write_bytes(b"no video at all")
    with pytest.raises(UserError, match=r"cam1\.avi gives no crop.*cannot be read beyond frame 0"):
        extract(video, video.with_suffix(".txt"), tmp_path / "nothing")


def test_stopped_in_the_middle_the_same_command_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the video is read, then while its table is written: no table of a part is ever left."""
    video = draw_video(tmp_path / "cam1.mp4")
    tracks = video.with_suffix(".txt")
    whole = extract(video, tracks, tmp_path / "whole").table
    crops, read, write = tmp_path / "crops", footage._cut, footage._write_table
    for name, stops in (("_cut", 9), ("_write_table", 1)):
        calls = itertools.count(1)

        def stopped(*given: Any, name: str = name, stops: int = stops, calls: Any = calls) -> Any:
            if next(calls) == stops:
                raise KeyboardInterrupt
            return (read if name == "_cut" else write)(*given)

        with monkeypatch.context() as patch:
            patch.setattr(footage, name, stopped)
            with pytest.raises(KeyboardInterrupt):
                extract(video, tracks, crops)
        assert sorted(crops.glob("*.*")) == []
        assert len(list(crops.glob("cam1/*.png"))) == (8 if name == "_cut" else 24)
    again = extract(video, tracks, crops)
    assert again.table.read_bytes() == whole.read_bytes()
    names = {row[0] for row in rows(whole)}
    assert {str(path.relative_to(crops)) for path in crops.glob("cam1/*")} == names
    for name in names:
        assert (crops / name).read_bytes() == (whole.parent / name).read_bytes()


@pytest.mark.slow
def test_whatever_a_video_and_a_text_hold_the_answer_is_crops_or_a_sentence(tmp_path: Path) -> None:
    """Thirty damaged videos (flipped, cut, swapped) and texts: none raises anything else, and every crop is whole."""
    from PIL import Image

    video = draw_video(tmp_path / "cam.avi", frames=8)
    content, lines = video.read_bytes(), video.with_suffix(".txt").read_text()
    rng, outcomes = np.random.default_rng(0), Counter()
    for number in range(30):
        damaged, text = bytearray(content), list(lines)
        if number % 3:
            for place in rng.integers(0 if number % 2 else 6000, len(damaged), 2 ** rng.integers(1, 10)):
                damaged[place] = rng.integers(256)
        else:
            del damaged[rng.integers(len(damaged)) :]
        if number % 5 == 0:
            for place in rng.integers(len(text), size=3):
                text[place] = rng.choice(list("-9.,\nex\0"))
        file = tmp_path / f"{number}.avi"
        file.write_bytes(damaged)
        file.with_suffix(".txt").write_text("".join(text))
        try:
            made = extract(file, file.with_suffix(".txt"), tmp_path / "crops")
        except UserError as error:
            outcomes[next(iter(re.findall("gives no crop|has no video|is no box|holds no box", str(error))))] += 1
            continue
        outcomes["crops"] += 1
        for path, *_ in rows(made.table):
            with Image.open(tmp_path / "crops" / path) as image:
                image.load()
    assert min(outcomes["crops"], outcomes["gives no crop"], outcomes["is no box"]) >= 2, outcomes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,2,3", r":2 is no box"),
        ("1,2,nan,0,5,5", r":2 is no box"),
        ("0,2,1,1,5,5", r":2 is no box"),
        ("1.5,2,1,1,5,5", r":2 is no box"),
        ("a,b,c,d,e,f", r":2 is no box"),
        ("1,2,1,1,5," + "9" * 5000, r":2 is no box"),
    ],
)
def test_a_line_that_is_no_box_is_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "cam.txt").write_text(f"1,1,0,0,5,5\n{line}\n")
    with pytest.raises(UserError, match=message):
        read_tracks(tmp_path / "cam.txt")


def test_boxes_that_are_to_be_ignored_or_outside_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "cam.txt").write_text("1 1 0 0 5 5 0\n")
    with pytest.raises(UserError, match="holds no box"):
        read_tracks(tmp_path / "cam.txt")
    video = draw_video(tmp_path / "cam1.mp4", frames=3)
    (tmp_path / "cam.txt").write_text("1,1,-10,-10,30,40,1\n2,2,500,10,20,20,1\n9,3,0,0,20,20,1\n")
    made = extract(video, tmp_path / "cam.txt", tmp_path / "crops")
    assert [row[4] for row in rows(made.table)] == ["cam1:1"]
    assert "1 boxes lie outside the picture" in " ".join(made.notes)
    assert "1 boxes are of frames that cam1.mp4 does not have" in " ".join(made.notes)


def test_people_are_found_across_cameras(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for camera in ("cam1", "cam2"):
        video = draw_video(tmp_path / f"{camera}.mp4")
        words = [f"ckpt={ckpt}", f"video={video}", f"tracks={video.with_suffix('.txt')}", f"out={tmp_path}/people"]
        assert type_in("embed", door, [*words, "compact=null", "trainer=cpu"], monkeypatch) == 0
        assert "look like day (visible)" in capsys.readouterr().out
    gallery = Gallery(tmp_path / "people")
    assert len(gallery) == 8  # both trackers count from 0
    table = table_of(gallery, asked := queries_of(gallery, gallery), search(gallery, asked, k=1)).to_pylist()
    tracks = dict(zip(asked.columns["path"].to_pylist(), asked.columns["track"].to_pylist(), strict=True))
    found = [tracks[row["query"]].partition(":")[2] == row["track"].partition(":")[2] for row in table]
    assert sum(found) == 8
    assert {row["camera"] for row in gallery.columns("camera").to_pylist()} == {"cam1", "cam2"}
    assert type_in("embed", door, [f"ckpt={ckpt}", f"out={tmp_path}/people", "trainer=cpu"], monkeypatch) == 2
    assert "images=PATH, or video=FILE and tracks=FILE" in capsys.readouterr().err


@pytest.mark.slow
def test_drawn_people_are_filmed_embedded_searched_and_scored(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"out={tmp_path}/films", "layout=video", "identities=6", "images_per_camera=1", "frames=6", "workers=1"]
    assert type_in("synthesize", synthesize, [*words, "height=48", "width=24"], monkeypatch) == 0
    films = tmp_path / "films"
    assert len(list(films.glob("cam?.mp4"))) == 6
    scoring = script("footage")
    gallery = scoring.fill(films, ckpt, tmp_path / "people", "compact=null", "trainer=cpu")
    truth = [line.split(",") for line in (films / "truth.csv").read_text().splitlines()[1:]]
    rows = gallery.columns("camera", "track", "modality").to_pylist()
    assert sorted((row["camera"], row["track"].rpartition(":")[2]) for row in rows) == sorted(
        (camera, track) for camera, track, _ in truth
    )
    assert {row["camera"] for row in rows if row["modality"] == "infrared"} == {
        "cam3",
        "cam6",
    }  # seen by their pictures
    found = dict(scoring.scored(gallery, films / "truth.csv"))
    assert set(found["all"]) == {identity for _, _, identity in truth}
    assert sum(map(len, found["all"].values())) == len(rows)
    whole = scoring.line("all", found["all"])
    assert f"| all | {len(found['all'])} | {len(rows)} |" in whole
    own = {(camera, track): identity for camera, track, identity in truth}
    right = {identity: [True] * len([one for one in own.values() if one == identity]) for identity in own.values()}
    assert "100.0 (" in scoring.line("all", right)
