"""A whole world on disk: a dataset's tree, drawn in parallel, and beside it what is known about everybody in it.

Images and files are written aside and renamed, so an interrupted drawing goes on where it stopped. The manifest, which
says what was asked for, gets its final name last: a tree that has it is complete.

    nuances.json    seed, the nuances' names, and of each identity its attributes and siblings
    nuances.npz     paths (N,), identities (N,), the visible boxes (N, nuances, 4) and the differences (N, 4): where the
                    sibling's picture would differ; NaN where a nuance is not visible, or nothing would differ;
                    facings (N,), which side of the person is seen: front, back or side
"""

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mpanet_pl.data.listing import missing_files
from mpanet_pl.errors import UserError
from mpanet_pl.system.files import in_turn, written_aside
from mpanet_pl.system.progress import track
from mpanet_pl.system.ranges import Count, Share, checked
from mpanet_pl.world import layouts, track_layouts
from mpanet_pl.world.body import FACINGS
from mpanet_pl.world.census import CAMERAS, WALKING, Census, even_census, full_census
from mpanet_pl.world.parts import box_around, visible_boxes
from mpanet_pl.world.people import NUANCES, Person, populate, siblings_of
from mpanet_pl.world.shot import Look, Shift, Shot

VERSION = 2  # of the drawing: another version draws other pixels from the same seed, or knows more of them
MANIFEST = "manifest.json"
UNFINISHED = "manifest.unfinished.json"
IMAGE_FORMAT = {".jpg": "JPEG", ".bmp": "BMP"}
CHUNK = 64  # images a process draws at a time


@checked
@dataclass(frozen=True, kw_only=True)
class World:
    """What is asked for; it determines every byte of every image."""

    layout: str = "sysu"
    identities: int | None = 100  # None: the real dataset's people and numbers of images
    images_per_camera: Count = 8  # or tracklets, in a layout of tracklets
    frames: Count | None = None  # of a tracklet
    test_share: Share = 0.4  # of made-up identities, the last ones
    siblings: Share = 0.0  # the share of identities who have a sibling
    clothes: Shift = 0.0  # which values of nuances are more often worn: above 0 the later ones
    dyed: bool = False  # whoever is trained on wears other colours in every picture
    look: Look = field(default_factory=Look)

    def __post_init__(self) -> None:
        if self.layout not in CAMERAS:
            raise UserError(f"layout is one of {', '.join(CAMERAS)}, got {self.layout}")
        if self.identities is not None and (self.identities < 4 or self.identities % 2):
            raise UserError(f"identities is an even number of people, at least 4, got {self.identities}")
        if self.identities is not None and not 2 <= self.tested <= self.identities - 2:
            raise UserError(
                f"test_share is the share of identities to be tested on, at least two and not all but one: "
                f"got {self.test_share} of {self.identities}"
            )
        may_walk = (*WALKING, "sysu")
        if self.layout not in may_walk if self.frames is not None else self.layout in WALKING:
            raise UserError(f"frames is for layouts of tracklets ({', '.join(may_walk)}): got {self.frames}")
        if self.dyed and self.layout == "regdb":
            raise UserError("layout=regdb trains on everybody in one trial or another: nobody can be dyed")

    @property
    def tested(self) -> int:
        """How many made-up identities are the test's."""
        return round(self.test_share * (self.identities or 0))

    def census(self) -> Census:
        if self.identities is None:
            return full_census(self.layout)
        return even_census(self.layout, self.identities, self.images_per_camera, self.test_share)

    def lay_out(self) -> layouts.Layout:
        who, seed, frames = self.census(), self.look.seed, self.frames or 1
        trees: dict[str, Callable[[], layouts.Layout]] = {
            "sysu": lambda: layouts.sysu(who, seed, self.frames),
            "regdb": lambda: layouts.regdb(who, seed),
            "llcm": lambda: layouts.llcm(who),
            "folder": lambda: layouts.folder(who),
            "vcm": lambda: track_layouts.vcm(who, frames),
            "buptcampus": lambda: track_layouts.buptcampus(who, frames),
            "orbench": lambda: track_layouts.orbench(who),
            "mp_reid": lambda: track_layouts.mp_reid(who),
        }
        return trees[self.layout]()

    def people(self) -> dict[int, Person]:
        return populate(self.look.seed, self.lay_out().groups, self.siblings, self.clothes)

    @property
    def dyed_people(self) -> set[int]:
        return {who for split, people in self.census().items() if split != "test" for who in people if self.dyed}

    @property
    def name(self) -> str:
        """A folder's name that says everything that was asked for."""
        look = self.look
        each = f"{self.images_per_camera}x{self.frames}" if self.frames else f"{self.images_per_camera}"
        people = "full" if self.identities is None else f"{self.identities}x{each}-test{self.tested}"
        conditions = f"siblings{self.siblings:g}-hardness{look.hardness:g}{'-dyed' if self.dyed else ''}"
        shift = {"cameras": look.cameras, "light": look.light, "clothes": self.clothes}
        conditions += "".join(f"-{word}{value:g}" for word, value in shift.items() if value)
        return f"{self.layout}-{people}-seed{look.seed}-{conditions}-{look.height}x{look.width}-v{VERSION}"


def draw_world(root: Path, world: World, workers: int) -> None:
    """Draw the tree into `root`, or what is missing of it. An existing tree with other settings is a `UserError`."""
    check_ours(root, world)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The drawn world cannot be kept in {root}: {error.strerror}. Say data_dir=PATH, or set MPANET_CACHE=PATH."
        ) from error
    with in_turn(root / ".lock", f"Another process draws {root}; waiting for it."):
        _draw_alone(root, world, workers)


def lay_out_empty(root: Path, world: World) -> None:
    """The tree with its split files, and every image an empty file: who would be where, before anything is drawn."""
    layout = world.lay_out()
    for folder in {(root / path).parent for path in (*layout.files, *(shot.path for shot in layout.shots))}:
        folder.mkdir(parents=True, exist_ok=True)
    for path, content in layout.files.items():
        (root / path).write_bytes(content)
    for shot in layout.shots:
        (root / shot.path).touch()


def is_drawn(root: Path, world: World) -> bool:
    """Whether the whole tree lies there; a tree of other settings, or another's folder, is a `UserError`."""
    check_ours(root, world)
    return (root / MANIFEST).is_file() and not missing_files(root, _files_of(world.lay_out()))


def _files_of(layout: layouts.Layout) -> list[str]:
    return [*(shot.path for shot in layout.shots), *layout.files, "nuances.json", "nuances.npz", MANIFEST]


def _draw_alone(root: Path, world: World, workers: int) -> None:
    check_ours(root, world)
    if not (root / MANIFEST).is_file():
        _write(root / UNFINISHED, _manifest(world))
    layout, people = world.lay_out(), world.people()
    if not missing_files(root, _files_of(layout)):
        return
    for path, content in layout.files.items():
        _write(root / path, content)
    chunks = [layout.shots[start : start + CHUNK] for start in range(0, len(layout.shots), CHUNK)]
    siblings, dyed_people = siblings_of(people), world.dyed_people
    models = {who: Model(person, siblings.get(who), who in dyed_people) for who, person in people.items()}
    jobs = [(chunk, {shot.identity: models[shot.identity] for shot in chunk}) for chunk in chunks]
    drawn = _in_parallel(partial(_draw, root, world.look), jobs, max(1, min(workers, len(jobs))))
    facings = [FACINGS.index(world.look.facing(shot, people[shot.identity])) for shot in layout.shots]
    boxes = np.stack(list(track(drawn, f"Drawing {root}", len(layout.shots))))
    _write(root / "nuances.json", json.dumps(_who_is_who(world.look.seed, people), indent=1).encode())
    _write(root / "nuances.npz", _boxes_file(layout.shots, boxes, facings))
    _write(root / MANIFEST, _manifest(world))
    (root / UNFINISHED).unlink(missing_ok=True)


def check_ours(root: Path, world: World) -> None:
    """Refuse a folder that is another's, or was drawn with other settings."""
    for name in (MANIFEST, UNFINISHED):
        if (root / name).is_file():
            if (root / name).read_bytes() != _manifest(world):
                raise UserError(f"{root} holds images drawn with other settings (see its {name}): name another folder")
            return
    if root.is_dir() and any(not entry.name.startswith(".") for entry in root.iterdir()):
        raise UserError(f"{root} is not empty and was not drawn by this package: name another folder")


def _manifest(world: World) -> bytes:
    asked = asdict(world)
    for words, later in ((asked, {"frames": None, "clothes": 0.0}), (asked["look"], {"light": 0.0, "cameras": None})):
        for word in [word for word, default in later.items() if words[word] == default]:
            del words[word]  # as worlds were told before there were such words
    return json.dumps({"drawing": VERSION, **asked}, indent=1).encode()


class Model(NamedTuple):
    person: Person
    sibling: Person | None
    dyed: bool


Job = tuple[list[Shot], dict[int, Model]]


def _draw(root: Path, look: Look, job: Job) -> list[np.ndarray]:
    """Draw those images of a job that are not there yet; of all, the nuances' boxes and the difference's last."""
    shots, models = job
    boxes = []
    for shot in shots:
        path, model = root / shot.path, models[shot.identity]
        inks = look.inks(shot, model.person)
        if not path.exists():
            person = look.dyed(shot, model.person) if model.dyed else model.person
            content = io.BytesIO()
            Image.fromarray(look.picture(shot, person, inks)).save(content, IMAGE_FORMAT[path.suffix], quality=92)
            _write(path, content.getvalue())
        differs = np.zeros_like(inks) if model.sibling is None else inks != look.inks(shot, model.sibling)
        boxes.append(np.concatenate([visible_boxes(inks), box_around(differs)[None]]))
    return boxes


def _in_parallel(draw: Callable[[Job], list[np.ndarray]], jobs: list[Job], workers: int) -> Iterator[np.ndarray]:
    """The jobs' boxes in order."""
    if workers == 1:
        yield from chain.from_iterable(map(draw, jobs))
        return
    start = "fork" if sys.platform == "linux" else "spawn"  # as torch's loaders do
    with ProcessPoolExecutor(workers, get_context(start), _leave_with, (os.getpid(),)) as pool:
        yield from chain.from_iterable(pool.map(draw, jobs))


def _leave_with(parent: int) -> None:
    """A killed parent tells its workers nothing: they look whether it is still there."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _who_is_who(seed: int, people: dict[int, Person]) -> dict[str, object]:
    identities = {
        str(identity): {"attributes": person.attributes, "siblings": person.siblings, "differs": person.differs}
        for identity, person in sorted(people.items())
    }
    return {"seed": seed, "nuances": list(NUANCES), "identities": identities}


def _boxes_file(shots: list[Shot], boxes: np.ndarray, facings: list[int]) -> bytes:
    file = io.BytesIO()
    paths, identities = np.array([shot.path for shot in shots]), np.array([shot.identity for shot in shots])
    places = {"boxes": boxes[:, :-1], "differences": boxes[:, -1], "facings": np.array(facings, dtype=np.uint8)}
    np.savez_compressed(file, paths=paths, identities=identities, **places)  # type: ignore[arg-type]  # as in queries.py
    return file.getvalue()


def _write(path: Path, content: bytes) -> None:
    with written_aside(path, durable=False) as aside:  # a sync for each image would take longer than to draw it
        aside.write_bytes(content)
