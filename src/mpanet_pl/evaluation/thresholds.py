"""From which cosine on somebody is known: a threshold that knows its gallery's size and says what it promises.

People who were neither trained on nor enrolled calibrate: each searches a gallery of the others. There is one law
(`impostors.Law`) for the modality of queries and of the gallery, for one image a person or all of them, and for each
rate. N people cannot promise less than 1 / (N + 1): even a threshold above all their scores is exceeded by a new person
that often. A threshold that keeps its rate with 90 % confidence needs as many that 0.9 = 1 - (1 - rate)^N.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.impostors import SCALES, SURE, Law

KEY = "threshold"  # of a checkpoint
FALSE_ALARMS = (0.01, 0.05, 0.1)
PROMISED = 0.05  # of the threshold that searches take
CARRIED = 30  # times the gallery that the people who calibrate make: farther the law was not tried
TOLD = (30, 100, 300, 1000)  # that results tell of
COSINES = SCALES["cosine"]
SINGLE, ALL = "single-shot", "all images"
ONE_IMAGE = 1.25  # images a person, up to which a gallery is single-shot


def least_people(rate: float, *, cautious: bool = False) -> int:
    """How many have to calibrate.

    >>> least_people(0.05), least_people(0.05, cautious=True), least_people(0.01)
    (19, 45, 99)
    """
    fewest = math.log(1 - SURE) / math.log1p(-rate) if cautious else 1 / rate - 1
    return math.ceil(fewest * (1 - 1e-9))


def threshold_for(best: Tensor, rate: float) -> float:
    """The lowest threshold that at most `rate` of these best scores of strangers (S,) reach; just above all if none.

    >>> threshold_for(torch.tensor([0.1, 0.4, 0.3, 0.2]), 0.5)
    0.30000001192092896
    >>> threshold_for(torch.tensor([0.1, 0.4, 0.3, 0.3]), 0.5)  # of equal ones all reach it
    0.4000000059604645
    """
    accepted = int(rate * len(best) * (1 + 1e-12))
    falling = best.sort(descending=True).values
    if accepted < len(best):
        accepted = int((falling > falling[accepted]).sum())  # of equal ones none
    if accepted == 0:
        return float(torch.nextafter(falling[0], best.new_tensor(torch.inf)))
    return float(falling[accepted - 1])


class Setting(NamedTuple):
    """Which searches calibrated, and what they say for each rate."""

    queries: str  # visible, infrared
    gallery: str  # visible, infrared, both
    shots: str  # SINGLE, ALL
    images: float  # of a person in the gallery, on average
    people: int
    searches: int
    laws: tuple[Law, ...]

    def fits(self, queries: str | None, gallery: str | None, shots: str) -> bool:
        return queries in (None, self.queries) and gallery in (None, self.gallery) and shots == self.shots

    def __str__(self) -> str:
        images = "visible and infrared" if self.gallery == "both" else self.gallery
        return f"{self.queries} queries in a gallery of {images} images, {self.shots}"


class Limit(NamedTuple):
    """A threshold for one gallery, and what it promises there."""

    value: float
    rate: float  # of strangers' searches that are expected to reach it
    most: float  # which the rate keeps below with 90 % confidence
    enrolled: int
    people: int  # who calibrated
    calibrated_on: str
    setting: str

    def __str__(self) -> str:
        return f"known from a cosine of {self.value:.3f} ({self.terms})"

    @property
    def terms(self) -> str:
        """
        >>> Limit(0.8123, 0.05, 0.1234, 300, 36, "test people", "any").terms.partition("; ")[0]
        '5 % false alarms expected with 300 people enrolled, at most 12 % with 90 % confidence'
        """
        promise = f"{percent(self.rate)} false alarms expected with {self.enrolled} people enrolled"
        most = f"at most {percent(self.most)} with {100 * SURE:.0f} % confidence"
        return f"{promise}, {most}; calibrated on {self.people} {self.calibrated_on}: {self.setting}"


@dataclass(frozen=True)
class Threshold:
    """What a run leaves for searches: laws of one network's cosines, from people whom it never saw.

    `Threshold.of(plain)` reads what `plain()` gives: plain values, for results, checkpoints and galleries' records.
    """

    calibrated_on: str
    settings: tuple[Setting, ...]

    def at(
        self,
        enrolled: int,
        *,
        rate: float = PROMISED,
        images: float = 1.0,
        queries: str | None = None,
        gallery: str | None = None,
        cautious: bool = False,
    ) -> Limit:
        """For a gallery of so many people with so many images each, of visible or infrared images or `both`.

        Where `queries` or `gallery` is not known: the highest threshold of all. A `UserError` where nobody can say.
        """
        found = []
        for setting, people in self._fitting(enrolled, images, queries, gallery):
            law = _law(setting, people, rate, cautious)
            found.append(float(COSINES.back(law.at(people, cautious=cautious))))
        return self.promise(max(found), enrolled, rate=rate, images=images, queries=queries, gallery=gallery)

    def promise(
        self,
        value: float,
        enrolled: int,
        *,
        rate: float = PROMISED,
        images: float = 1.0,
        queries: str | None = None,
        gallery: str | None = None,
    ) -> Limit:
        """What any cosine promises there, by the law of `rate`: of what is not known, the searches of most alarms."""
        limits = []
        for setting, people in self._fitting(enrolled, images, queries, gallery):
            expected, most = _law(setting, people, rate, False).rates(float(COSINES.of(value)), people)
            who = (enrolled, setting.people, self.calibrated_on, str(setting))
            limits.append(Limit(value, expected, most, *who))
        return max(limits, key=lambda limit: limit.rate)

    def _fitting(
        self, enrolled: int, images: float, queries: str | None, gallery: str | None
    ) -> list[tuple[Setting, int]]:
        """Settings of such searches, each with the people who stand for the gallery."""
        shots = SINGLE if images <= ONE_IMAGE else ALL
        fitting = [setting for setting in self.settings if setting.fits(queries, gallery, shots)]
        if not fitting:
            of = " ".join(word for word in (queries, gallery, shots) if word)
            raise UserError(f"Nobody calibrated searches of this kind ({of}).")
        # A person's further images are at most as many further people.
        return [(setting, max(1, math.ceil(enrolled * max(1.0, images / setting.images)))) for setting in fitting]

    def promises(self) -> list[dict[str, Any]]:
        """Of TOLD and the rates that can be promised there, for any modality, one image a person: for readers."""
        told = []
        for rate in FALSE_ALARMS:
            for enrolled in TOLD:
                try:
                    limit = self.at(enrolled, rate=rate)
                except UserError:
                    continue
                told.append({"enrolled": enrolled, "rate": rate, "value": limit.value, "at_most": limit.most})
        return told

    def plain(self) -> dict[str, Any]:
        settings = [
            {**setting._asdict(), "laws": [{**law._asdict(), "errors": list(law.errors)} for law in setting.laws]}
            for setting in self.settings
        ]
        return {"similarity": "cosine", "calibrated_on": self.calibrated_on, "settings": settings}

    @classmethod
    def of(cls, plain: object, source: str) -> Threshold | None:
        """From plain values out of `source`; None where it holds none, or one of 0.2, which knew no gallery's size."""
        if not isinstance(plain, Mapping) or "settings" not in plain or isinstance(plain["settings"], Mapping):
            return None
        try:
            settings = tuple(_setting(stored) for stored in plain["settings"])
            return cls(str(plain["calibrated_on"]), settings) if settings else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{source} holds a threshold that is damaged: {error!r}.") from error


def _law(setting: Setting, people: int, rate: float, cautious: bool) -> Law:
    needed = least_people(rate, cautious=cautious)
    if setting.people < needed:
        raise UserError(
            f"{setting.people} people are too few to calibrate a false-alarm rate of {percent(rate)}: "
            f"{needed} are needed. Hold more people out, or give a cosine (threshold=0.8)."
        )
    law = next((law for law in setting.laws if math.isclose(law.rate, rate)), None)
    if law is None:
        raise UserError(f"There is no threshold for a false-alarm rate of {percent(rate)} ({setting}).")
    if people > CARRIED * law.people:
        raise UserError(
            f"A threshold of {setting.people} people cannot be carried over to a gallery of {people}: at most "
            f"{CARRIED * law.people}. Calibrate on more people, or give a cosine (threshold=0.8)."
        )
    return law


def _setting(stored: Mapping[str, Any]) -> Setting:
    laws = tuple(_stored_law(law) for law in stored["laws"])
    queries, gallery, shots = (str(stored[name]) for name in ("queries", "gallery", "shots"))
    images, people, searches = _finite(stored["images"]), _count(stored["people"]), _count(stored["searches"])
    return Setting(queries, gallery, shots, images, people, searches, laws)


def _stored_law(stored: Mapping[str, Any]) -> Law:
    rate, place, slope, scale = (_finite(stored[name]) for name in ("rate", "place", "slope", "scale"))
    one, both, other = (_finite(value) for value in stored["errors"])
    if not (0 < rate < 1 and scale > 0 and slope >= 0):
        raise ValueError(f"rate {rate}, scale {scale}, slope {slope}")
    return Law(rate, place, slope, scale, (one, both, other), _count(stored["people"]))


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no finite number")
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is no number of people")
    return value


def percent(rate: float) -> str:
    """
    >>> percent(0.05), percent(0.1234), percent(0.00123)
    ('5 %', '12 %', '0.12 %')
    """
    return f"{float(f'{100 * rate:.2g}'):g} %"
