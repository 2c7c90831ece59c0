"""Tiny datasets drawn in every layout: a few noisy colours for each person, in less than a second."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZES = ((40, 18), (52, 24), (33, 20))  # (height, width): a dataset's images vary


def draw_image(path: Path, identity: int, infrared: bool, seed: int = 0) -> None:
    """A person's colours in three stripes; grey under an infrared camera."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(identity).integers(0, 256, (3, 3))
    noise = np.random.default_rng([identity, infrared, seed])
    height, width = SIZES[int(noise.integers(len(SIZES)))]
    stripes = colours[np.arange(height) * 3 // height][:, None] + noise.integers(-20, 21, (height, width, 3))
    image = Image.fromarray(stripes.clip(0, 255).astype(np.uint8))  # (H, W, 3)
    (image.convert("L") if infrared else image).save(path)


def draw_sysu(
    root: Path,
    *,
    train: Sequence[int] = (1, 2, 4),
    val: Sequence[int] = (5,),
    test: Sequence[int] = (6, 9, 10),
    images: int = 2,
) -> Path:
    """SYSU-MM01's layout with `images` of everyone under each camera; returns `root`."""
    for name, identities in (("train", train), ("val", val), ("test", test)):
        write(root / f"exp/{name}_id.txt", ",".join(map(str, identities)) + "\n")
    for camera in range(1, 7):
        for identity in (*train, *val, *test):
            for number in range(1, images + 1):
                path = root / f"cam{camera}/{identity:04d}/{number:04d}.jpg"
                draw_image(path, identity, camera in (3, 6), seed=10 * camera + number)
    return root


def draw_regdb(root: Path, *, identities: int = 8, images: int = 2, trials: Sequence[int] = (1, 2)) -> Path:
    """RegDB's layout; each trial halves the people in its own way, labelled from 0 in both halves."""
    for identity in range(1, identities + 1):
        for modality in ("Visible", "Thermal"):
            for number in range(images):
                path = root / f"{modality}/{identity}/{modality[0].lower()}_{number}.bmp"
                draw_image(path, identity, modality == "Thermal", seed=number)
    for trial in trials:
        order = np.random.default_rng(trial).permutation(identities) + 1
        for split, half in (("train", order[: identities // 2]), ("test", order[identities // 2 :])):
            for modality in ("Visible", "Thermal"):
                lines = [
                    f"{modality}/{identity}/{modality[0].lower()}_{number}.bmp {label}\n"
                    for label, identity in enumerate(sorted(half))
                    for number in range(images)
                ]
                write(root / f"idx/{split}_{modality.lower()}_{trial}.txt", "".join(lines))
    return root


def draw_llcm(
    root: Path, *, train: Sequence[int] = (1, 2, 5), test: Sequence[int] = (3, 4, 7), images: int = 1
) -> Path:
    """LLCM's layout: nine visible cameras, eight near-infrared ones (no camera 3)."""
    write(root / "idx/test_id.txt", ",".join(map(str, test)) + "\n")
    for modality, cameras in (("vis", range(1, 10)), ("nir", (1, 2, 4, 5, 6, 7, 8, 9))):
        lines = []
        for camera in cameras:
            for number in range(images):
                name = f"c{camera:02d}_s{number}_{modality}.jpg"
                for label, identity in enumerate(train):
                    path = f"{modality}/{identity:04d}/{identity:04d}_{name}"
                    draw_image(root / path, identity, modality == "nir", seed=10 * camera + number)
                    lines.append(f"{path} {label}\n")
                for identity in test:
                    path = f"test_{modality}/cam{camera}/{identity:04d}/{identity:04d}_{name}"
                    draw_image(root / path, identity, modality == "nir", seed=10 * camera + number)
        write(root / f"idx/train_{modality}.txt", "".join(lines))
    return root


def draw_folder(
    root: Path, *, people: Sequence[str] = ("anna", "bert", "cleo", "dora", "emil", "fred"), images: int = 3
) -> Path:
    """A user's own folder, with the camera in some of the names."""
    for number, person in enumerate(people):
        for modality in ("visible", "infrared"):
            for shot in range(images):
                name = f"c{shot}_{shot:02d}.png" if shot else "first.JPG"
                draw_image(root / modality / person / name, number, modality == "infrared", seed=shot)
    return root


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


FRAMES = 13  # of a tracklet, one more than HITSZ-VCM's least


def draw_layout(layout: str, root: Path) -> Path:
    """A layout of the drawn world, its files as they are, with small pictures in place of drawn people."""
    from mpanet_pl.world import Look, World

    frames = {"frames": FRAMES} if layout in ("vcm", "buptcampus") else {}
    look = Look(height=16, width=16)
    laid_out = World(layout=layout, identities=6, images_per_camera=1, **frames, look=look).lay_out()
    for shot in laid_out.shots:
        draw_image(root / shot.path, shot.identity, shot.infrared, seed=shot.camera)
    for path, content in laid_out.files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


MARS_FRAMES = 2
MARS_PEOPLE = {"train": (1, 2, 3), "test": (4, 5)}


def draw_mars(root: Path, *, junk: bool = True) -> Path:
    """Two tracklets a person and camera; the test has a distractor (0) and, numbered -1, what is nobody."""
    queries = []
    for split, people in MARS_PEOPLE.items():
        names, lines = [], []
        for person in [*people, *((0, -1) if split == "test" and junk else ())]:
            called = f"{person:04d}" if person >= 0 else "00-1"
            for camera in (1, 2):
                for track in (1, 2):
                    first = len(names) + 1
                    for frame in range(1, MARS_FRAMES + 1):
                        names.append(f"{called}C{camera}T{track:04d}F{frame:03d}.jpg")
                        draw_image(root / f"bbox_{split}" / called / names[-1], abs(person), False, seed=frame)
                    lines.append([first, len(names), person, camera])
                    queries += [len(lines)] if split == "test" and person > 0 and track == 1 else []
        write(root / f"info/{split}_name.txt", "\n".join(names) + "\n")
        savemat(root / f"info/tracks_{split}_info.mat", {f"track_{split}_info": np.array(lines, dtype=np.float64)})
    savemat(root / "info/query_IDX.mat", {"query_IDX": np.array([queries])})
    return root


def draw_mevid(root: Path) -> Path:
    """Counted from 0, an outfit before the camera, numbers as numpy's savetxt writes them, queries on a line each."""
    queries = []
    for split, people in MARS_PEOPLE.items():
        names, lines = [], []
        for person in people:
            for camera in (1, 2):
                for outfit in (0, 1):
                    first = len(names)
                    for frame in range(MARS_FRAMES):
                        names.append(f"{person:04d}O{outfit:03d}C{300 + camera}T000F{frame:05d}.jpg")
                        draw_image(root / f"bbox_{split}/{person:04d}" / names[-1], person, False, seed=frame)
                    lines.append([first, len(names) - 1, person, outfit, 300 + camera])
                    queries += [len(lines) - 1] if split == "test" and outfit == 0 else []
        write(root / f"{split}_name.txt", "\n".join(names) + "\n")
        np.savetxt(root / f"track_{split}_info.txt", np.array(lines))
    np.savetxt(root / "query_IDX.txt", np.array(queries))
    return root


MARS = {"mars": draw_mars, "mevid": draw_mevid}
