"""A camera's video and a tracker's text to crops and a table of them, six frames a tracklet: what `embed` takes.

Detecting and tracking people is others' work; their result reaches this file as MOTChallenge text, a box a line:
frame (from 1), track, left, top, width, height, and a confidence, which is 0 where the box is to be ignored.
"""

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from mpanet_pl.data.faults import listed
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.extras import need
from mpanet_pl.system.files import written_aside
from mpanet_pl.system.progress import track as progress

FRAMES = 6  # of a tracklet: the first of each of six equal strips, as the field's video datasets are tested
SMALLEST = 4  # pixels, width and height of a box within the picture
GREY = 4.0  # mean difference of a picture's channels, of 255, below which it is a night camera's
STEP = 8  # pixels from one that is looked at to the next


class Box(NamedTuple):
    frame: int
    track: int
    left: float
    top: float
    width: float
    height: float


class Crop(NamedTuple):
    path: str  # relative to the folder of crops
    track: int
    time: float  # seconds
    colour: float  # mean difference of its frame's channels


class Footage(NamedTuple):
    table: Path  # for embed, with group=track
    notes: tuple[str, ...]


def read_tracks(path: str | Path) -> list[Box]:
    """A tracker's boxes, refused with the number of the line that is none."""
    boxes = []
    try:
        with Path(path).expanduser().open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip() and (box := _box(line, f"{path}:{number}")):
                    boxes.append(box)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no text of tracks: {error}.") from error
    if not boxes:
        raise UserError(f"{path} holds no box: frame,track,left,top,width,height on each line.")
    return boxes


def chosen(boxes: Sequence[Box]) -> list[Box]:
    """Of each track the first frame of each of six equal strips, each once; all frames of a shorter one.

    >>> [box.frame for box in chosen([Box(frame, 1, 0, 0, 9, 9) for frame in range(1, 14)])]
    [1, 4, 7, 10, 13]
    """
    tracks: dict[int, dict[int, Box]] = {}
    for box in boxes:
        tracks.setdefault(box.track, {}).setdefault(box.frame, box)
    kept = []
    for frames in tracks.values():
        order, step = sorted(frames), math.ceil(len(frames) / FRAMES)
        places = {min(strip * step, len(order) - 1) for strip in range(FRAMES)}  # the last frame fills strips up
        kept += [frames[order[place]] for place in places]
    return sorted(kept, key=lambda box: (box.frame, box.track))


def extract(
    video: str | Path,
    tracks: str | Path,
    crops: str | Path,
    *,
    camera: str | None = None,
    start: float = 0.0,
    modality: str | None = None,
) -> Footage:
    """Write a video's crops below `crops`, and their table beside them; nothing again where that was done.

    camera: its name, the video's unless given. start: the first frame's time in seconds.
    modality: visible or infrared; by the pictures' channels unless given.
    """
    if modality not in (None, "visible", "infrared"):
        raise UserError(f"modality is visible or infrared, got {modality}.")
    source, folder = Path(video).expanduser(), Path(crops).expanduser()
    if not source.is_file():
        raise UserError(f"{video} does not exist.")
    name = re.sub(r"[^\w.-]", "_", source.stem)
    asked = {"camera": camera or source.stem, "start": start, "modality": modality, **_stamp(source, tracks)}
    table, record = folder / f"{name}.csv", folder / f"{name}.json"
    there = _read(record)
    if there.get("video", asked["video"]) != asked["video"]:
        raise UserError(f"{table} is of another video, {there['video']}: give crops=… another folder.")
    if there and {key: there.get(key) for key in asked} == asked and table.exists():
        return Footage(table, tuple(str(note) for note in there.get("notes", ())))
    boxes = chosen(read_tracks(tracks))
    notes: list[str] = []
    made = list(_crops(source, boxes, folder, name, start, notes))
    if not made:
        raise UserError(" ".join([f"{video} gives no crop.", *notes]))
    night = _nights(made, modality)
    if modality is None:
        notes.append(
            f"{len(night) - sum(night.values())} tracklets of {source.name} look like day (visible), "
            f"{sum(night.values())} like night (infrared), by their pictures' channels; modality=… says otherwise."
        )
    _write_table(table, made, name, asked["camera"], night)
    with written_aside(record) as aside:
        aside.write_text(json.dumps(asked | {"notes": notes}, indent=1) + "\n")
    return Footage(table, tuple(notes))


def _crops(
    source: Path, boxes: Sequence[Box], folder: Path, name: str, start: float, notes: list[str]
) -> Iterator[Crop]:
    """Decode once, frame by frame; a broken video gives what it gave before."""
    wanted: dict[int, list[Box]] = {}
    for box in boxes:
        wanted.setdefault(box.frame, []).append(box)
    last, small, number = max(wanted), [], 0
    (folder / name).mkdir(parents=True, exist_ok=True)
    try:
        for number, time, picture in progress(_frames(source, last), f"Reading {source.name}", last):
            for box in wanted.get(number, ()):
                crop = _cut(picture, box)
                if crop is None:
                    small.append(f"track {box.track} in frame {number}")
                    continue
                path = f"{name}/{box.track:06d}_{number:08d}.png"
                with written_aside(folder / path, durable=False) as aside:
                    Image.fromarray(crop).save(aside, "PNG")
                yield Crop(path, box.track, start + time, _colour(picture))
    except _Broken as error:
        notes.append(f"{source.name} cannot be read beyond frame {number} ({error}); what was read is kept.")
    if missing := sum(len(some) for frame, some in wanted.items() if frame > number):
        notes.append(f"{missing} boxes are of frames that {source.name} does not have or that could not be read.")
    if small:
        notes.append(f"{len(small)} boxes lie outside the picture or are below {SMALLEST} pixels: {listed(small)}.")


class _Broken(Exception):
    pass


def _frames(source: Path, last: int) -> Iterator[tuple[int, float, np.ndarray]]:
    """Number from 1, seconds from the first frame, RGB pixels (H, W, 3): one frame in memory at a time."""
    av: Any = need("av", "video")
    try:
        with av.open(str(source)) as container:
            if not container.streams.video:
                raise UserError(f"{source} has no video.")
            stream = container.streams.video[0]
            rate, first = float(stream.average_rate or 25), None
            for number, frame in enumerate(container.decode(stream), start=1):
                now = (number - 1) / rate if frame.time is None else float(frame.time)
                first = now if first is None else first
                yield number, now - first, frame.to_ndarray(format="rgb24")
                if number >= last:
                    return
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise _Broken(str(error).splitlines()[0]) from error


def _cut(picture: np.ndarray, box: Box) -> np.ndarray | None:
    height, width = picture.shape[:2]
    left, top = max(0, round(box.left)), max(0, round(box.top))
    right, bottom = min(width, round(box.left + box.width)), min(height, round(box.top + box.height))
    if right - left < SMALLEST or bottom - top < SMALLEST:
        return None
    return np.ascontiguousarray(picture[top:bottom, left:right])


def _colour(picture: np.ndarray) -> float:
    some = picture[::STEP, ::STEP].astype(np.int16)
    return float((some.max(2) - some.min(2)).mean())


def _nights(crops: Sequence[Crop], modality: str | None) -> dict[int, bool]:
    colours: dict[int, list[float]] = {}
    for crop in crops:
        colours.setdefault(crop.track, []).append(crop.colour)
    if modality is not None:
        return dict.fromkeys(colours, modality == "infrared")
    return {track: float(np.median(some)) < GREY for track, some in colours.items()}


def _write_table(path: Path, crops: Sequence[Crop], name: str, camera: str, night: Mapping[int, bool]) -> None:
    with written_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "camera", "time", "modality", "track"])
        for crop in crops:
            modality = "infrared" if night[crop.track] else "visible"
            writer.writerow([crop.path, camera, f"{crop.time:.3f}", modality, f"{name}:{crop.track}"])


def _box(line: str, place: str) -> Box | None:
    fields = line.replace(",", " ").split()
    try:
        numbers = [float(field) for field in fields]
        if len(numbers) < 6 or not all(map(math.isfinite, numbers)):
            raise ValueError
        frame, track = (int(number) for number in numbers[:2])
        if (frame, track) != tuple(numbers[:2]) or not 1 <= frame < 2**40 or not 0 <= track < 2**40:
            raise ValueError
    except ValueError:
        raise UserError(f"{place} is no box (frame,track,left,top,width,height): {line.strip()[:80]!r}.") from None
    if len(numbers) > 6 and numbers[6] == 0:
        return None
    return Box(frame, track, *numbers[2:6])


def _stamp(video: Path, tracks: str | Path) -> dict[str, Any]:
    try:
        stats = [video.stat(), Path(tracks).expanduser().stat()]
    except OSError as error:
        raise UserError(f"{tracks} does not exist.") from error
    return {"video": str(video.absolute()), "stamps": [[stat.st_size, stat.st_mtime_ns] for stat in stats]}


def _read(record: Path) -> dict[str, Any]:
    try:
        there = json.loads(record.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return there if isinstance(there, dict) else {}
