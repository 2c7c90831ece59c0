"""The parts of a figure: what each is made of, and where a nuance shows.

An image of *inks* says for every point which part is seen there and how shaded it is. Colours come later (`paint`), so
both modalities share one geometry, and a nuance's visible region is read off the inks, after everything that hides it.
"""

from enum import IntEnum, auto

import numpy as np

from mpanet_pl.world.people import NUANCES, Material


class Part(IntEnum):
    """FAR parts belong to the limb behind, or to the left one of a front view."""

    BACKGROUND = 0
    OCCLUDER = auto()
    SKIN = auto()
    HAIR = auto()
    HEADWEAR = auto()
    FRAMES = auto()
    LENSES = auto()
    SCARF = auto()
    TORSO = auto()
    HEM = auto()
    PATTERN = auto()
    FRONT = auto()
    FRONT_BELOW = auto()  # what an open coat shows below the shirt
    BAG = auto()
    LEGWEAR = auto()
    LEG_END = auto()
    FAR_LEG_END = auto()
    SLEEVE = auto()
    FAR_SLEEVE = auto()
    FOREARM = auto()
    FAR_FOREARM = auto()
    SHOE = auto()
    FAR_SHOE = auto()
    SOLE = auto()
    FAR_SOLE = auto()


MATERIALS: dict[Part, Material] = {
    Part.SKIN: Material.SKIN,
    Part.HAIR: Material.HAIR,
    Part.HEADWEAR: Material.HEADWEAR,
    Part.FRAMES: Material.FRAMES,
    Part.LENSES: Material.SKIN,
    Part.SCARF: Material.SCARF,
    Part.TORSO: Material.TOP,
    Part.HEM: Material.TOP,
    Part.PATTERN: Material.ACCENT,
    Part.FRONT: Material.SHIRT,
    Part.FRONT_BELOW: Material.LEGWEAR,
    Part.BAG: Material.BAG,
    Part.LEGWEAR: Material.LEGWEAR,
    Part.LEG_END: Material.LEGWEAR,
    Part.FAR_LEG_END: Material.LEGWEAR,
    Part.SLEEVE: Material.TOP,
    Part.FAR_SLEEVE: Material.TOP,
    Part.FOREARM: Material.SKIN,
    Part.FAR_FOREARM: Material.SKIN,
    Part.SHOE: Material.SHOES,
    Part.FAR_SHOE: Material.SHOES,
    Part.SOLE: Material.SOLES,
    Part.FAR_SOLE: Material.SOLES,
}

SHADES = (1.0, 0.8, 0.6, 1.15)
FLAT, SHADED, DEEP, LIT = range(len(SHADES))
INKS = len(Part) * len(SHADES)


def ink(part: Part, shade: int = FLAT) -> int:
    return part * len(SHADES) + shade


# Where a nuance shows; of a pair of arms, legs or feet, the one that shows more.
REGIONS: list[tuple[str, set[Part]]] = [
    ("glasses", {Part.FRAMES, Part.LENSES}),
    ("headwear", {Part.HEADWEAR}),
    ("hair", {Part.HAIR}),
    ("sleeves", {Part.SLEEVE, Part.FOREARM}),
    ("sleeves", {Part.FAR_SLEEVE, Part.FAR_FOREARM}),
    ("hem", {Part.HEM}),
    ("front", {Part.FRONT, Part.FRONT_BELOW}),
    ("pattern", {Part.PATTERN}),
    ("bag", {Part.BAG}),
    ("legwear", {Part.LEGWEAR, Part.LEG_END, Part.FAR_LEG_END}),
    ("leg_length", {Part.LEG_END}),
    ("leg_length", {Part.FAR_LEG_END}),
    ("shoes", {Part.SHOE, Part.SOLE}),
    ("shoes", {Part.FAR_SHOE, Part.FAR_SOLE}),
    ("scarf", {Part.SCARF}),
]
SMALLEST_REGION = 6e-4  # of the image's area, five pixels of 128×64; less is not visible
IN_REGION = np.array([[number // len(SHADES) in region for number in range(INKS)] for _, region in REGIONS])
REGION_BITS = (IN_REGION * (1 << np.arange(len(REGIONS)))[:, None]).sum(axis=0).astype(np.uint16)


def visible_boxes(inks: np.ndarray) -> np.ndarray:
    """The box (left, top, right, bottom) of each nuance's visible region, in fractions of the image; NaN if none shows.

    `inks` is (height, width), the result (nuances, 4).
    """
    bits = REGION_BITS[inks]
    in_rows, in_columns = np.bitwise_or.reduce(bits, axis=1), np.bitwise_or.reduce(bits, axis=0)
    areas = IN_REGION @ np.bincount(inks.ravel(), minlength=INKS)
    boxes = np.full((len(NUANCES), 4), np.nan, np.float32)
    largest = dict.fromkeys(NUANCES, SMALLEST_REGION * inks.size)
    for region, (name, _) in enumerate(REGIONS):
        if areas[region] > largest[name]:
            largest[name] = areas[region]
            boxes[list(NUANCES).index(name)] = _box(in_rows >> region & 1, in_columns >> region & 1)
    return boxes


def box_around(points: np.ndarray) -> np.ndarray:
    """The box (4,) around what is not 0 in (height, width); NaN where all is."""
    return _box(np.asarray(points.any(axis=1)), np.asarray(points.any(axis=0)))


def _box(in_rows: np.ndarray, in_columns: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(in_rows), np.flatnonzero(in_columns)
    if not len(rows):
        return np.full(4, np.nan, np.float32)
    height, width = len(in_rows), len(in_columns)
    box = columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
    return np.array(box, np.float32)
