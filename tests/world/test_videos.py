"""Videos of drawn people: what a box holds is the person whom truth.csv names."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpanet_pl.world import Look, World, draw_world
from mpanet_pl.world.videos import write_videos

av = pytest.importorskip("av")


def test_a_box_holds_the_frame_that_was_drawn(tmp_path: Path) -> None:
    world = World(identities=6, images_per_camera=1, frames=2, look=Look(height=32, width=16))
    draw_world(tmp_path / "drawn", world, 1)
    shots = [shot for shot in world.lay_out().shots if shot.camera in (1, 3)]
    write_videos(tmp_path / "drawn", shots, world.look, tmp_path / "films")
    with (tmp_path / "films/truth.csv").open(newline="") as file:
        truth = {(row["camera"], int(row["track"])): int(row["identity"]) for row in csv.DictReader(file)}
    assert sorted(truth.values()) == sorted(shot.identity for shot in shots if shot.frame == 0)
    drawn = {(shot.camera, shot.identity, shot.frame): tmp_path / "drawn" / shot.path for shot in shots}
    for camera in (1, 3):
        place, seen = tmp_path / f"films/cam{camera}", []
        with av.open(str(place.with_suffix(".mp4"))) as container:
            frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
        boxes = [list(map(int, line.split(",")[:6])) for line in place.with_suffix(".txt").read_text().splitlines()]
        assert {frame for frame, *_ in boxes} == set(range(1, len(frames) + 1))
        for frame, track, left, top, width, height in boxes:
            crop = frames[frame - 1][top : top + height, left : left + width]
            number = sum(one == track for _, one, *_ in seen)
            seen.append((frame, track))
            for (of_camera, identity, of_frame), path in drawn.items():
                if of_camera == camera and of_frame == number:
                    apart = np.abs(crop - np.asarray(Image.open(path).convert("RGB")).astype(int)).mean()
                    assert (apart < 8) == (identity == truth[f"cam{camera}", track]), (identity, apart)
