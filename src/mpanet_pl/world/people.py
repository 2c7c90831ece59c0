"""People, and what tells them apart: a body, twelve nuances, and two independent sets of materials.

A material has a colour under visible cameras and a reflectance under infrared ones, and the two are separate draws:
across modalities only shapes, lengths and accessories tell who is who. Siblings are two people equal in all but one
nuance.
"""

import colorsys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

NUANCES: dict[str, tuple[str, ...]] = {
    "glasses": ("none", "clear", "dark"),
    "headwear": ("none", "cap", "beanie", "hat"),
    "hair": ("short", "chin", "long"),
    "sleeves": ("sleeveless", "short", "long"),
    "hem": ("waist", "thigh", "knee"),
    "front": ("plain", "zip", "open"),
    "pattern": ("plain", "stripes", "block"),
    "bag": ("none", "backpack", "shoulder", "hand"),
    "legwear": ("trousers", "shorts", "skirt"),
    "leg_length": ("short", "long"),
    "shoes": ("low", "boots", "light soles"),
    "scarf": ("none", "scarf"),
}

Attributes = dict[str, str]  # nuance -> value


class Material(IntEnum):
    SKIN = 0
    HAIR = 1
    TOP = 2
    ACCENT = 3  # of a pattern
    SHIRT = 4  # under an open front; also the zip
    LEGWEAR = 5
    SHOES = 6
    SOLES = 7
    BAG = 8
    SCARF = 9
    HEADWEAR = 10
    FRAMES = 11


# A material's tone keeps a distance from those that it touches, so that every nuance shows in both modalities.
TOUCHES: dict[Material, tuple[Material, ...]] = {
    Material.TOP: (Material.SKIN,),
    Material.ACCENT: (Material.TOP,),
    Material.SHIRT: (Material.TOP, Material.ACCENT),
    Material.LEGWEAR: (Material.TOP, Material.SKIN),
    Material.SHOES: (Material.LEGWEAR, Material.SOLES),
    Material.BAG: (Material.TOP,),
    Material.SCARF: (Material.TOP, Material.SKIN),
    Material.HEADWEAR: (Material.HAIR, Material.SKIN),
}
DISTANCE = 0.16
PEOPLE, FAMILIES, CAMERAS, SPLITS, SHOTS, LIGHT, DYES = range(7)  # the first words of the random streams' keys
LUMINANCE = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, eq=False)
class Person:
    height: float  # in heights of an average person
    build: float  # in widths of an average person
    visible: np.ndarray  # (materials, 3) colours in [0, 1]
    infrared: np.ndarray  # (materials, 1) reflectances in [0, 1]
    attributes: Attributes
    siblings: int | None = None  # the group's number
    differs: str | None = None  # the one nuance in which the siblings differ


def generator(seed: int, *key: int) -> np.random.Generator:
    """The random stream of one thing in the world of `seed`, independent of every other thing's."""
    return np.random.default_rng(np.random.SeedSequence((seed, *key)))


def draw_person(rng: np.random.Generator, clothes: float = 0.0) -> Person:
    """Somebody without siblings; with `clothes` above 0 the later values of nuances are more often worn, below 0 the
    earlier ones."""
    height, build = rng.uniform(0.93, 1.05), rng.uniform(0.85, 1.18)
    visible, infrared = _materials(rng)
    odds = {name: _odds(len(values), clothes) for name, values in NUANCES.items()}
    while not _shows(attributes := {name: str(rng.choice(values, p=odds[name])) for name, values in NUANCES.items()}):
        pass
    return Person(height, build, visible, infrared, attributes)


def dyed(person: Person, rng: np.random.Generator) -> Person:
    """The same person in clothes of the same cut, with everything of another colour and reflectance."""
    visible, infrared = _materials(rng)
    return replace(person, visible=visible, infrared=infrared)


def populate(seed: int, groups: Iterable[Sequence[int]], siblings: float, clothes: float = 0.0) -> dict[int, Person]:
    """Everybody. Of the neighbours (first, second), (third, fourth) … of each group the share `siblings` are siblings.

    >>> people = populate(1, [range(1, 9)], siblings=0.5)
    >>> [person.siblings for person in people.values()]
    [1, 1, 2, 2, None, None, None, None]
    """
    people: dict[int, Person] = {}
    family = 0
    for group in groups:
        for position, identity in enumerate(group):
            people[identity] = draw_person(generator(seed, PEOPLE, identity), clothes)
            if position % 2 and position < siblings * len(group):
                family += 1
                elder = group[position - 1]
                people[elder], people[identity] = _siblings(people[elder], family, generator(seed, FAMILIES, family))
    return people


def siblings_of(people: Mapping[int, Person]) -> dict[int, Person]:
    """The sibling of each identity that has one."""
    families: dict[int, list[int]] = {}
    for identity, person in people.items():
        if person.siblings is not None:
            families.setdefault(person.siblings, []).append(identity)
    pairs = [pair for elder, younger in families.values() for pair in ((elder, younger), (younger, elder))]
    return {identity: people[sibling] for identity, sibling in pairs}


def _siblings(elder: Person, family: int, rng: np.random.Generator) -> tuple[Person, Person]:
    """The elder, and its copy with one nuance changed: each family's turn falls to the next nuance that can change."""
    names = list(NUANCES)
    for turn in range(len(names)):
        name = names[(family + turn) % len(names)]
        changed = [elder.attributes | {name: value} for value in NUANCES[name] if value != elder.attributes[name]]
        if changed := [attributes for attributes in changed if _shows(attributes)]:
            break
    elder = replace(elder, siblings=family, differs=name)
    return elder, replace(elder, attributes=changed[rng.integers(len(changed))])


def _shows(attributes: Attributes) -> bool:
    """Whether the end of shorts and skirts shows from under the coat."""
    under_coat = attributes["hem"] == "knee" and attributes["legwear"] != "trousers"
    return not (under_coat and attributes["leg_length"] == "short")


def _odds(count: int, clothes: float) -> np.ndarray | None:
    """None: all alike, which numpy draws in another way than equal odds."""
    odds = np.exp(clothes * np.arange(count))
    return odds / odds.sum() if clothes else None


def _materials(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colours (materials, 3) and reflectances (materials, 1)."""
    visible = _colours(rng, _tones(rng, skin=(0.42, 0.78), hair=(0.06, 0.5)))
    return visible, _tones(rng, skin=(0.55, 0.75), hair=(0.08, 0.5))[:, None]


def _tones(rng: np.random.Generator, skin: tuple[float, float], hair: tuple[float, float]) -> np.ndarray:
    """A grey level for each material."""
    tones = np.empty(len(Material))
    tones[Material.SKIN], tones[Material.HAIR] = rng.uniform(*skin), rng.uniform(*hair)
    tones[Material.FRAMES], tones[Material.SOLES] = 0.04, 0.95
    for material, neighbours in TOUCHES.items():
        tone = rng.uniform(0.06, 0.92)
        while min(abs(tone - tones[neighbour]) for neighbour in neighbours) < DISTANCE:
            tone = rng.uniform(0.06, 0.92)
        tones[material] = tone
    return tones


def _colours(rng: np.random.Generator, tones: np.ndarray) -> np.ndarray:
    """Colours of these grey levels: any hue for cloth, a warm one for skin and hair."""
    hues, saturations = rng.uniform(0, 1, len(tones)), rng.uniform(0, 1, len(tones))
    hues[[Material.SKIN, Material.HAIR]] = 0.07
    saturations[[Material.SKIN, Material.HAIR]] = 0.35, 0.5
    saturations[[Material.FRAMES, Material.SOLES]] = 0
    chroma = np.array([colorsys.hsv_to_rgb(hue, 1, 1) for hue in hues])
    chroma -= (chroma @ LUMINANCE)[:, None]  # a direction that leaves the grey level alone
    room = np.minimum(tones, 1 - tones) / np.abs(chroma).max(axis=1)
    return np.clip(tones[:, None] + (1.2 * saturations * room)[:, None] * chroma, 0, 1)
