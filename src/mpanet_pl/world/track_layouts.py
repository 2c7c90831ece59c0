"""Trees of the tracklet datasets, and of those whose lists say who searches, as their releases have them."""

import json

from mpanet_pl.data.buptcampus import CAMERAS as BUPT_CAMERAS
from mpanet_pl.world.census import Census
from mpanet_pl.world.layouts import Layout, comma_separated, images
from mpanet_pl.world.shot import Shot


def vcm(census: Census, frames: int) -> Layout:
    """HITSZ-VCM's: a folder's frame numbers go on from tracklet to tracklet."""
    shots: list[Shot] = []
    files: dict[str, bytes] = {}
    for split, folder in (("train", "Train"), ("test", "Test")):
        names: list[str] = []
        lines: list[str] = []
        searched: list[str] = []
        for _, identity, camera, track in images({split: census[split]}):
            modality, word = (1, "ir") if camera.infrared else (2, "rgb")
            first = len(names) + 1
            for frame in range(frames):
                number = (track - 1) * frames + frame + 1
                path = f"{folder}/{identity:04d}/{word}/D{camera.number}/{number}.jpg"
                shots.append(Shot(path, identity, *camera, track, frame))
                names.append(f"{identity:04d}M{modality}D{camera.number}T{track}F{number}.jpg")
            lines.append(f"{modality} {first} {len(names)} {identity} {camera.number}")
            searched += [str(len(lines))] if camera.infrared else []
        files[f"info/{split}_name.txt"] = _lines(names)
        files[f"info/track_{split}_info.txt"] = _lines(lines)
        if split == "test":
            files["info/query_IDX.txt"] = " ".join(searched).encode()
    return Layout(shots, [sorted(people) for people in census.values()], files)


def buptcampus(census: Census, frames: int) -> Layout:
    """BUPTCampus': visible and infrared tracklets in pairs; a test person's first pair searches."""
    shots: list[Shot] = []
    paths: dict[str, dict[str, dict[str, dict[str, list[str]]]]] = {}
    lists: dict[str, list[str]] = {"train": [], "query": [], "gallery": []}
    for split, identity, camera, track in images(census):
        modality, place = "IR" if camera.infrared else "RGB", BUPT_CAMERAS[camera.number - 1]
        listed = []
        for frame in range(frames):
            name = f"{identity:04d}_{modality}_{place}_{track:02d}_{frame:04d}.jpg"
            listed.append(f"{identity:04d}/{modality}/{place}/{name}")
            shots.append(Shot(f"DATA/{listed[-1]}", identity, *camera, track, frame))
        within = paths.setdefault(f"{identity:04d}", {}).setdefault(modality, {}).setdefault(place, {})
        within[f"{track:02d}"] = listed
        if split == "train":
            lists["train"] += [] if camera.infrared else [f"{identity:04d} RGB/IR {place} {track:02d}"]
        else:
            role = "query" if camera.number == 1 and track == 1 else "gallery"
            lists[role].append(f"{identity:04d} {modality} {place} {track:02d}")
    files = {f"{name}.txt": _lines(lines) for name, lines in lists.items()}
    files["data_paths.json"] = json.dumps(paths).encode()
    return Layout(shots, [sorted(people) for people in census.values()], files)


def orbench(census: Census) -> Layout:
    """ORBench's, of its visible and near-infrared images."""
    shots, annotations = [], []
    test: dict[str, list[list[object]]] = {"RGB_GALLERY": [], "NIR": []}
    labels = {identity: number for number, identity in enumerate(sorted(census["train"]), start=1)}
    for split, identity, camera, number in images(census):
        path = f"{'nir' if camera.infrared else 'vis'}/{identity:04d}/drawn_{identity:04d}_{number}.jpg"
        shots.append(Shot(path, identity, *camera, number))
        if split == "test":
            test["NIR" if camera.infrared else "RGB_GALLERY"].append([identity, path])
        elif not camera.infrared:
            annotations.append({"id": labels[identity], "file_path": path, "caption": "", "split": "train"})
    files = {
        "train_annos.json": json.dumps(annotations).encode(),
        "test_gallery_and_queries.json": json.dumps(test).encode(),
    }
    return Layout(shots, [sorted(people) for people in census.values()], files)


def mp_reid(census: Census) -> Layout:
    """MP-ReID's, with two of its experiments."""
    shots = [
        Shot(f"{camera.number:02d}/{identity:04d}/{number:04d}.jpg", identity, *camera, number)
        for _, identity, camera, number in images(census)
    ]
    train, test = sorted(census["train"]), sorted(census["test"])
    quarter = max(1, len(train) // 4)
    files = {}
    for experiment in ("exp_cctv_ir_cctv_rgb", "exp_uav_ir_uav_rgb", "exp_cctv_ir_uav_ir"):
        parts = {"train": train[quarter:], "val": train[:quarter], "test": test}
        for split, people in parts.items():
            files[f"{experiment}/{split}_id.txt"] = comma_separated(people)
    return Layout(shots, [train, test], files)


def _lines(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
