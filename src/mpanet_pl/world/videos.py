"""Videos of drawn people who walk: one a camera, with a tracker's text, and who is who for whoever scores.

cam1.mp4, cam1.txt    frames, and MOTChallenge's text; tracks count from 0 in each camera, as trackers do
truth.csv             camera, track, identity
"""

from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from mpanet_pl.errors import UserError
from mpanet_pl.system.files import written_aside
from mpanet_pl.world.people import generator
from mpanet_pl.world.shot import Look, Shot

LANES, RATE = 4, 10  # tracklets beside each other, frames a second
MARGIN, STREAM = 8, 71  # pixels around a person; of the world's generators


def write_videos(drawn: Path, shots: list[Shot], look: Look, out: Path) -> None:
    """Of walks whose frames lie under `drawn`, as `World(frames=…)` draws them."""
    walks: dict[int, dict[tuple[int, int], list[Shot]]] = defaultdict(lambda: defaultdict(list))
    for shot in shots:
        walks[shot.camera][shot.identity, shot.number].append(shot)
    truth = ["camera,track,identity"]
    for camera, of_camera in sorted(walks.items()):
        tracks = sorted(of_camera.items())
        order = generator(look.seed, STREAM, camera).permutation(len(tracks))
        shuffled = [tracks[place] for place in order]
        truth += [f"cam{camera},{track},{identity}" for track, ((identity, _), _) in enumerate(shuffled)]
        _write(out / f"cam{camera}", drawn, [walk for _, walk in shuffled], look)
    with written_aside(out / "truth.csv") as aside:
        aside.write_text("\n".join(truth) + "\n")


def _write(place: Path, drawn: Path, walks: list[list[Shot]], look: Look) -> None:
    try:
        import av
    except ImportError as error:
        raise UserError('layout=video needs PyAV: pip install "mpanet_pl[video]".') from error
    high, wide = look.height + 2 * MARGIN, LANES * (look.width + 2 * MARGIN)
    size = high + high % 2, wide  # codecs take even numbers
    lines: list[str] = []
    frames = 0
    with written_aside(place.with_suffix(".mp4")) as aside, av.open(str(aside), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = size[1], size[0], "yuv420p", 8_000_000
        for start in range(0, len(walks), LANES):
            together = walks[start : start + LANES]
            for moment in range(max(map(len, together))):
                picture = np.full((*size, 3), 96, np.uint8)
                frames += 1
                for lane, walk in enumerate(together):
                    if moment >= len(walk):
                        continue
                    left, top = lane * (look.width + 2 * MARGIN) + MARGIN, MARGIN
                    with Image.open(drawn / walk[moment].path) as image:
                        picture[top : top + look.height, left : left + look.width] = np.asarray(image.convert("RGB"))
                    box = f"{left},{top},{look.width},{look.height}"
                    lines.append(f"{frames},{start + lane},{box},1,-1,-1,-1")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    with written_aside(place.with_suffix(".txt")) as aside:
        aside.write_text("\n".join(lines) + "\n")
