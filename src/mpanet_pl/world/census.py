"""Who is seen how often: numbers of images by split, identity and camera, made up or those of a real dataset."""

import csv
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

from mpanet_pl.errors import UserError


class Camera(NamedTuple):
    number: int
    infrared: bool


Census = dict[str, dict[int, dict[Camera, int]]]  # split -> identity -> camera -> images

SYSU_CAMERAS = [Camera(number, number in (3, 6)) for number in range(1, 7)]
LLCM_CAMERAS = [Camera(n, False) for n in range(1, 10)] + [Camera(n, True) for n in range(1, 10) if n != 3]
CAMERAS = {
    "sysu": SYSU_CAMERAS,
    "regdb": [Camera(1, False), Camera(2, True)],
    "llcm": LLCM_CAMERAS,
    "folder": SYSU_CAMERAS,
    "vcm": [Camera(n, False) for n in (1, 2, 3)] + [Camera(n, True) for n in (4, 5, 6)],
    "buptcampus": [Camera(n, infrared) for n in (1, 2, 3) for infrared in (False, True)],
    "orbench": [Camera(1, False), Camera(2, True)],
    "mp_reid": [Camera(n, n in (*range(7, 13), 14)) for n in range(1, 15)],
}
WALKING = ("vcm", "buptcampus")  # layouts of tracklets


def even_census(layout: str, identities: int, images: int, test_share: float) -> Census:
    """Everybody under every camera, equally often. The last identities are the test's."""
    train = identities - round(test_share * identities)
    numbers = {"train": range(1, train + 1), "test": range(train + 1, identities + 1)}
    return {split: {i: dict.fromkeys(CAMERAS[layout], images) for i in people} for split, people in numbers.items()}


def full_census(layout: str) -> Census:
    """The real dataset's numbers."""
    match layout:
        case "sysu":
            return sysu_census()
        case "regdb":
            return even_census("regdb", 412, images=10, test_share=0.5)
        case "llcm":
            return llcm_census()
        case _:
            raise UserError(f"layout={layout} has no real dataset behind it: say how many identities it shall have")


def sysu_census() -> Census:
    """SYSU-MM01's own numbers: 45 863 images, of some people under some cameras none, and 1 118 in no split."""
    census: Census = {"train": {}, "val": {}, "test": {}, "unused": {}}
    with files("mpanet_pl.world").joinpath("sysu_counts.csv").open() as file:
        for row in csv.DictReader(file):
            counts = {camera: int(row[f"cam{camera.number}"]) for camera in SYSU_CAMERAS}
            if any(counts.values()):
                census[row["split"]][int(row["identity"])] = counts
    return census


def llcm_census() -> Census:
    """LLCM's published totals, spread evenly over 713 and 351 identities and their cameras."""
    return {
        "train": _spread(range(1, 714), visible=16946, infrared=13975),
        "test": _spread(range(714, 1065), visible=8680, infrared=7166),
    }


def _spread(people: Sequence[int], visible: int, infrared: int) -> dict[int, dict[Camera, int]]:
    counts: dict[int, dict[Camera, int]] = {identity: {} for identity in people}
    for modality, total in ((False, visible), (True, infrared)):
        places = [(i, camera) for camera in LLCM_CAMERAS if camera.infrared == modality for i in people]
        for place, (identity, camera) in enumerate(places):
            counts[identity][camera] = total // len(places) + (place < total % len(places))
    return counts
