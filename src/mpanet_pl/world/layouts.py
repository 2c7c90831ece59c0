"""Folder trees as the real datasets have them: which image goes where, and the files that say who is in which split."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.io import savemat

from mpanet_pl.world.census import Camera, Census
from mpanet_pl.world.people import SPLITS, generator
from mpanet_pl.world.shot import Shot

TRIALS = 10
MAT_HEADER = b"MATLAB 5.0 MAT-file, drawn by mpanet_pl".ljust(116)  # without the time, so that equal files are equal


@dataclass(frozen=True)
class Layout:
    shots: list[Shot]
    groups: list[list[int]]  # of identities; siblings are looked for within one
    files: dict[str, bytes]  # split files by path


def sysu(census: Census, seed: int, frames: int | None = None) -> Layout:
    """SYSU-MM01's tree, with a permutation file of the official format; or each image is so many frames of a walk."""
    shots = [
        Shot(f"cam{camera.number}/{identity:04d}/{number:04d}{suffix}.jpg", identity, *camera, number, frame)
        for _, identity, camera, number in images(census)
        for frame, suffix in ([(None, "")] if frames is None else [(f, f"_{f:03d}") for f in range(frames)])
    ]
    train, val = sorted(census["train"]), sorted(census.get("val", []))
    if not val:
        quarter = max(1, len(train) // 4)
        train, val = train[quarter:], train[:quarter]
    test, unused = sorted(census["test"]), sorted(census.get("unused", []))
    files = {
        "exp/train_id.txt": comma_separated(train),
        "exp/val_id.txt": comma_separated(val),
        "exp/test_id.txt": comma_separated(test),
        "exp/rand_perm_cam.mat": _permutations(census, seed),
    }
    return Layout(shots, [sorted(train + val), test, unused], files)


def regdb(census: Census, seed: int) -> Layout:
    """RegDB's tree: ten ways to halve the people."""
    people = sorted(identity for split in census.values() for identity in split)
    shots = [
        Shot(_regdb_path(identity, camera, number), identity, *camera, number)
        for _, identity, camera, number in images(census)
    ]
    files = {}
    for trial in range(1, TRIALS + 1):
        pairs = np.array(people).reshape(-1, 2)  # neighbours, who may be siblings, stay together
        shuffled = generator(seed, SPLITS, trial).permutation(pairs)
        halves = {"train": shuffled[: len(pairs) // 2], "test": shuffled[len(pairs) // 2 :]}
        for split, half in halves.items():
            label = {int(identity): number for number, identity in enumerate(np.sort(half, axis=None))}
            for modality, infrared in (("visible", False), ("thermal", True)):
                lines = (
                    f"{shot.path} {label[shot.identity]}\n"
                    for shot in shots
                    if shot.identity in label and shot.infrared == infrared
                )
                files[f"idx/{split}_{modality}_{trial}.txt"] = "".join(lines).encode()
    return Layout(shots, [people], files)


def _regdb_path(identity: int, camera: Camera, number: int) -> str:
    folder, letter = ("Thermal", "t") if camera.infrared else ("Visible", "v")
    return f"{folder}/{identity}/person_{letter}_{number:05d}_{identity}.bmp"


def llcm(census: Census) -> Layout:
    """LLCM's tree."""
    shots, lines = [], {"vis": "", "nir": ""}
    label = {identity: number for number, identity in enumerate(sorted(census["train"]))}
    for split, identity, camera, number in images(census):
        modality = "nir" if camera.infrared else "vis"
        if split == "train":
            path = f"{modality}/{identity:04d}/{identity:04d}_c{camera.number:02d}_{number:04d}.jpg"
            lines[modality] += f"{path} {label[identity]}\n"
        else:
            path = f"test_{modality}/cam{camera.number}/{identity:04d}/{number:04d}.jpg"
        shots.append(Shot(path, identity, *camera, number))
    files = {f"idx/train_{modality}.txt": text.encode() for modality, text in lines.items()}
    files["idx/test_id.txt"] = comma_separated(sorted(census["test"]))
    return Layout(shots, [sorted(people) for people in census.values()], files)


def folder(census: Census) -> Layout:
    """The tree of a user's own images."""
    shots = []
    for split, identity, camera, number in images(census):
        modality = "infrared" if camera.infrared else "visible"
        path = f"{split}/{modality}/{identity:04d}/c{camera.number}_{number:04d}.jpg"
        shots.append(Shot(path, identity, *camera, number))
    return Layout(shots, [sorted(people) for people in census.values()], {})


def images(census: Census) -> Iterator[tuple[str, int, Camera, int]]:
    for split, people in census.items():
        for identity, counts in people.items():
            for camera, count in counts.items():
                for number in range(1, count + 1):
                    yield split, identity, camera, number


def comma_separated(identities: Iterable[int]) -> bytes:
    return (",".join(map(str, identities)) + "\n").encode()


def _permutations(census: Census, seed: int) -> bytes:
    """`rand_perm_cam`: the image numbers of each camera and identity in ten orders, a cell of cells of (10, images)."""
    people = {identity: counts for split in census.values() for identity, counts in split.items()}
    cameras = sorted({camera for counts in people.values() for camera in counts})
    outer = np.empty((len(cameras), 1), dtype=object)
    for row, camera in enumerate(cameras):
        outer[row, 0] = inner = np.empty((max(people), 1), dtype=object)
        inner[:, 0] = [np.empty((0, 0), np.uint16)] * len(inner)
        for identity, counts in people.items():
            rng = generator(seed, SPLITS, camera.number, identity)
            orders = [rng.permutation(counts[camera]) + 1 for _ in range(TRIALS)]
            inner[identity - 1, 0] = np.array(orders, np.uint16).reshape(TRIALS, -1)
    file = io.BytesIO()
    savemat(file, {"rand_perm_cam": outer})
    return MAT_HEADER + file.getvalue()[len(MAT_HEADER) :]
