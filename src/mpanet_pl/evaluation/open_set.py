"""Open set: who is searched for may not be there, so a match has to be good enough, and a threshold says how good.

A search is *mated* where its person is enrolled in the gallery. A person is as similar as the best of their images.
With a threshold t, the false-alarm rate (FAR, FPIR) is the share of non-mated searches whose best person reaches t, and
the detection and identification rate (DIR, TPIR) the share of mated ones whose own person reaches it and ranks first
(NISTIR 8271; ISO/IEC 19795-1). Both depend on how many people are enrolled.

The protocol is this package's own. A threshold that promises a rate is calibrated on people who were neither trained on
nor tested, held-out training people where a run has them: each searches a gallery of the others. For each draw a hash
of the draw and the person's number then parts the test people: some are enrolled, some withheld from the gallery, and
these tell the rate that the threshold really has. Without held-out people a part of the test people only calibrates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import copy
from statistics import fmean, stdev
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.ranking import REMOVED, Gallery
from mpanet_pl.evaluation.retrieval import Retrieval
from mpanet_pl.evaluation.scoring import DISTANCES, check_embeddings
from mpanet_pl.interfaces import RetrievalProtocol, Search
from mpanet_pl.system.precision import full_precision

FALSE_ALARMS = (0.01, 0.05, 0.1)
FALSE_ACCEPTS = (1e-1, 1e-2, 1e-3, 1e-4)
ENROLLED, WITHHELD, CALIBRATING = 0, 1, 2
SHARES = {ENROLLED: 0.5, WITHHELD: 0.25, CALIBRATING: 0.25}
MOST = 4096  # searches that calibrate
AT_ONCE = 512
PROMISED = 0.05  # of the one threshold that a search takes
HELD_OUT, OF_THE_TEST = "held-out training people", "test people"
TOO_FEW = "{setting}: too few test people for an open set: some have to be enrolled, some withheld, some calibrate."


class Searches(NamedTuple):
    """S searches of a gallery."""

    best: Tensor  # (S,) similarity of the most similar person, whoever it is
    own: Tensor  # (S,) of the person searched for; -inf where not enrolled
    place: Tensor  # (S,) int64, where that person ranks; of equals the wrong one ranks first
    mated: Tensor  # (S,) bool

    @classmethod
    def of(cls, similarity: Tensor, column: Tensor) -> Searches:
        """From similarities to each enrolled person (S, I), and the searched person's column (S,), -1 for none."""
        mated = column >= 0
        own = similarity.gather(1, column.clamp(min=0)[:, None]).flatten().masked_fill(~mated, REMOVED)
        return cls(similarity.amax(1), own, (similarity >= own[:, None]).sum(1), mated)

    def false_alarms(self, threshold: float) -> float:
        """The share of non-mated searches that find somebody."""
        return _share(self.best[~self.mated] >= threshold)

    def detected(self, threshold: float, rank: int = 1) -> float:
        """The share of mated searches that find their person, within `rank`."""
        return _share((self.own >= threshold)[self.mated] & (self.place <= rank)[self.mated])


def threshold_for(best: Tensor, rate: float) -> float:
    """What `rate` of these best similarities of strangers (S,) reach; just above all where that is less than one.

    >>> threshold_for(torch.tensor([0.1, 0.4, 0.3, 0.2]), 0.5)
    0.30000001192092896
    """
    accepted = round(rate * len(best))
    if accepted == 0:
        return float(torch.nextafter(best.amax(), best.new_tensor(torch.inf)))
    return float(best.topk(accepted).values[-1])


class Verification(NamedTuple):
    """Pairs told apart by one threshold: accepted are those above it."""

    true: Tensor  # (P,) float64: share of same-person pairs accepted, as the threshold falls from above all of them
    false: Tensor  # (P,) float64: share of different-person pairs accepted

    @classmethod
    def of(cls, same: Tensor, different: Tensor) -> Verification:
        """From the similarities of the pairs of each kind."""
        scores, order = torch.cat([same, different]).sort(descending=True)
        is_same = order < len(same)
        last = torch.cat([scores[1:] != scores[:-1], scores.new_ones(1, dtype=torch.bool)])  # of equal scores
        true, false = (kind.cumsum(0)[last].double() / kind.sum() for kind in (is_same, ~is_same))
        start = true.new_zeros(1)
        return cls(torch.cat([start, true]), torch.cat([start, false]))

    def at(self, rate: float) -> float:
        """TAR: the most same-person pairs that can be accepted with at most this share of the others (FAR)."""
        within = torch.searchsorted(self.false, rate * (1 + 1e-12), right=True)
        return float(self.true[within - 1])

    @property
    def equal_error(self) -> float:
        """Where both errors are the most alike, their mean."""
        wrong, missed = self.false, 1 - self.true
        place = (wrong - missed).abs().argmin()
        return float((wrong + missed)[place] / 2)

    @property
    def area(self) -> float:
        return float(torch.trapezoid(self.true, self.false))

    def true_rejection_at(self, false_rejection: float) -> float:
        """What fast-reid reports as "TPR@FPR": the share of different-person pairs rejected, at the curve's point whose
        share of same-person pairs rejected is nearest. Its curve leaves points between two others out.
        """
        rejected_same, rejected = (1 - self.true).flip(0), (1 - self.false).flip(0)
        bends = (rejected_same.diff(n=2).abs() > 1e-12) | (rejected.diff(n=2).abs() > 1e-12)
        kept = torch.cat([bends.new_ones(1), bends, bends.new_ones(1)])
        return float(rejected[kept][(rejected_same[kept] - false_rejection).abs().argmin()])


class Calibration(NamedTuple):
    """People to calibrate on, and their embeddings by the network that is tested."""

    embeddings: Tensor  # (N, D)
    catalogue: Catalogue
    who: str = HELD_OUT


class OpenSetScores(NamedTuple):
    """One setting's: shares by draw, for each promised false-alarm rate."""

    detected: Mapping[float, Sequence[float]]  # at the threshold that really has the rate among the withheld people
    real: Mapping[float, Sequence[float]]  # the false-alarm rate of the calibrated threshold
    detected_as_calibrated: Mapping[float, Sequence[float]]
    thresholds: Mapping[float, Sequence[float]]
    by_cameras: Mapping[float, Mapping[tuple[int, int], float]]  # (query's, gallery's) -> real rate, of all draws
    verification: Verification  # pairs of the first gallery
    enrolled: int  # people, in the first draw
    non_mated: int  # searches, in the first draw
    measured: str


@torch.no_grad()
def evaluate_open_set(
    embeddings: Tensor,
    catalogue: Catalogue,
    protocol: RetrievalProtocol,
    *,
    draws: int = 10,
    calibration: Calibration | None = None,
) -> dict[str, OpenSetScores]:
    """Every setting of `protocol`, whose galleries and rules are kept. `embeddings` (N, D) are the catalogue's.

    Thresholds are those of the `calibration` in the same setting; where there is none, of some of the test people.
    """
    check_embeddings(embeddings, len(catalogue))
    if draws < 1:
        raise UserError(f"An open set needs at least one draw, got {draws}")
    with full_precision(embeddings.device):
        retrieval = Retrieval(embeddings, catalogue, protocol)
        strangers = _strangers_by_setting(calibration, protocol.elsewhere()) if calibration else {}
        return {
            setting: _setting(retrieval, search, setting, draws, strangers.get(setting))
            for search in protocol.searches(catalogue)
            for setting in search.galleries
        }


@torch.no_grad()
def calibrate(calibration: Calibration, protocol: RetrievalProtocol) -> dict[str, Any]:
    """The thresholds for use, as a run's results keep them: of cosines, whatever these people's `protocol` compares by.

    `value` promises PROMISED in every setting, so that it is the highest of theirs; empty where nobody can calibrate.
    """
    check_embeddings(calibration.embeddings, len(calibration.catalogue))
    protocol = copy(protocol)
    protocol.similarity = "cosine"
    with full_precision(calibration.embeddings.device):
        found = {
            setting: strangers(draw=0) for setting, strangers in _strangers_by_setting(calibration, protocol).items()
        }
    settings = {
        setting: {str(rate): threshold_for(best, rate) for rate in FALSE_ALARMS}
        for setting, best in found.items()
        if len(best)
    }
    if not settings:
        return {}
    highest = max(settings, key=lambda setting: settings[setting][str(PROMISED)])
    return {
        "value": settings[highest][str(PROMISED)],
        "false_alarm_rate": PROMISED,
        "similarity": "cosine",
        "setting": highest,
        "calibrated_on": calibration.who,
        "people": calibration.catalogue.num_identities,
        "searches": len(found[highest]),
        "settings": settings,
    }


class _Strangers(NamedTuple):
    """People who search galleries of one another in one setting."""

    retrieval: Retrieval
    queries: Tensor
    trials: Sequence[Tensor]
    who: str

    def __call__(self, draw: int, enrolled: int | None = None) -> Tensor:
        """(S,) each query's best similarity to anybody but its own person, among so many people that a hash chooses."""
        identities, images = self.retrieval.identities, self.trials[draw % len(self.trials)]
        if enrolled is not None:
            people = identities[images].unique()
            chosen = people[torch.tensor(_by_hash(people, draw)[:enrolled], device=people.device)]
            images = images[torch.isin(identities[images], chosen).to(images.device)]
        best = []
        for rows in self.queries.split(AT_ONCE):
            own = identities[rows][:, None] == identities[images]
            best.append(comparable(self.retrieval, rows, images).masked_fill_(own, REMOVED).amax(1))
        found = torch.cat(best)
        return found[found > REMOVED]


def _strangers_by_setting(calibration: Calibration, protocol: RetrievalProtocol) -> dict[str, _Strangers]:
    retrieval = Retrieval(calibration.embeddings, calibration.catalogue, protocol)
    return {
        setting: _Strangers(retrieval, _some(search.queries), trials, calibration.who)
        for search in protocol.searches(calibration.catalogue)
        for setting, trials in search.galleries.items()
        if len(search.queries) and all(len(images) for images in trials)
    }


def _some(queries: Tensor) -> Tensor:
    """At most `MOST`, at equal distances in the list."""
    return queries[torch.linspace(0, len(queries) - 1, min(MOST, len(queries))).long()]


def _by_hash(people: Tensor, draw: int) -> list[int]:
    """Places of `people` (I,) in an order of the draw's own."""
    keys = [hashlib.sha256(f"{draw} {person}".encode()).digest() for person in people.tolist()]
    return sorted(range(len(keys)), key=keys.__getitem__)


def groups(people: Tensor, draw: int) -> Tensor:
    """(I,) which of `ENROLLED`, `WITHHELD`, `CALIBRATING` each of `people` (I,) is in this draw."""
    order = _by_hash(people, draw)
    group = torch.full((len(people),), ENROLLED)
    withheld, calibrating = (round(SHARES[kind] * len(people)) for kind in (WITHHELD, CALIBRATING))
    group[order[:withheld]] = WITHHELD
    group[order[withheld : withheld + calibrating]] = CALIBRATING
    return group


def _setting(
    retrieval: Retrieval, search: Search, setting: str, draws: int, strangers: _Strangers | None
) -> OpenSetScores:
    trials, protocol = search.galleries[setting], retrieval.protocol
    detected: dict[float, list[float]] = {rate: [] for rate in FALSE_ALARMS}
    as_calibrated, real, thresholds = ({rate: list[float]() for rate in FALSE_ALARMS} for _ in range(3))
    alarms: dict[float, dict[tuple[int, int], list[Tensor]]] = {rate: {} for rate in FALSE_ALARMS}
    sizes = []
    for draw in range(draws):
        images = trials[draw % len(trials)]
        drawn = _draw(retrieval, search.queries, images, draw, setting, strangers)
        sizes.append((drawn.enrolled, int((~drawn.tested.mated).sum())))
        for rate in FALSE_ALARMS:
            threshold = threshold_for(drawn.calibrating, rate)
            thresholds[rate].append(threshold)
            real[rate].append(drawn.tested.false_alarms(threshold))
            as_calibrated[rate].append(drawn.tested.detected(threshold))
            withheld = drawn.tested.best[~drawn.tested.mated]
            detected[rate].append(drawn.tested.detected(threshold_for(withheld, rate)))
            for pair, best in drawn.by_cameras.items():
                alarms[rate].setdefault(pair, []).append(best >= threshold)
    by_cameras = {
        rate: {pair: _share(torch.cat(found)) for pair, found in sorted(pairs.items())}
        for rate, pairs in alarms.items()
    }
    who = strangers.who if strangers else "people neither enrolled nor tested"
    way = DISTANCES[protocol.similarity]
    measured = (
        f"open set: {way}; {draws} draws of people, {sizes[0][0]} enrolled in the first, with {sizes[0][1]} non-mated "
        f"searches; thresholds calibrated on {who}; {protocol.draw}; "
        f"{type(protocol).__name__} version {protocol.version}"
    )
    pairs = _pairs(retrieval, search.queries, trials[0])
    return OpenSetScores(detected, real, as_calibrated, thresholds, by_cameras, pairs, *sizes[0], measured)


class _Draw(NamedTuple):
    tested: Searches
    calibrating: Tensor  # (C,) best similarities of those who calibrate
    by_cameras: dict[tuple[int, int], Tensor]  # of the withheld people: best similarity in each camera of the gallery
    enrolled: int


def _draw(
    retrieval: Retrieval, queries: Tensor, images: Tensor, draw: int, setting: str, strangers: _Strangers | None
) -> _Draw:
    catalogue = retrieval.catalogue
    people = catalogue.identities.unique()
    group = groups(people, draw)[torch.searchsorted(people, catalogue.identities)]  # (N,) of each image's person
    if strangers is not None:
        group[group == CALIBRATING] = WITHHELD
    images = images[group[images] == ENROLLED]
    if not len(images):
        raise UserError(TOO_FEW.format(setting=setting))
    gallery = Gallery(retrieval.identities[images])
    similarity = comparable(retrieval, queries, images)  # (Q, G)
    of_people = gallery.best_of_each(similarity)  # (Q, I)
    identities = retrieval.identities[queries]
    place = torch.searchsorted(gallery.known, identities).clamp(max=len(gallery.known) - 1)
    column = place.where(gallery.known[place] == identities, -1)
    of_query = group[queries].to(similarity.device)
    meets = of_people.amax(1) > REMOVED
    unmatched = (of_query == ENROLLED) & (column < 0)
    searches = Searches.of(of_people, column)
    tested = meets & (of_query != CALIBRATING) & ~unmatched & ((searches.own > REMOVED) | ~searches.mated)
    calibrating = strangers(draw, len(gallery.known)) if strangers else searches.best[meets & (of_query == CALIBRATING)]
    searches = Searches(*(values[tested] for values in searches))
    if not searches.mated.any() or searches.mated.all() or not len(calibrating):
        raise UserError(TOO_FEW.format(setting=setting))
    withheld = meets & (of_query == WITHHELD)  # (Q,)
    by_cameras = {}
    for mine in catalogue.cameras[queries[withheld.cpu()]].unique().tolist():
        rows = withheld & (catalogue.cameras[queries] == mine).to(withheld.device)
        for theirs in catalogue.cameras[images].unique().tolist():
            best = similarity[rows][:, (catalogue.cameras[images] == theirs).to(rows.device)].amax(1)
            if len(met := best[best > REMOVED]):
                by_cameras[mine, theirs] = met
    return _Draw(searches, calibrating, by_cameras, len(gallery.known))


def comparable(retrieval: Retrieval, queries: Tensor, images: Tensor) -> Tensor:
    """(Q, G) similarities that mean the same for every query: cosines, or negative distances; -inf where none meet."""
    return retrieval.comparable(queries, images)


def _pairs(retrieval: Retrieval, queries: Tensor, images: Tensor) -> Verification:
    similarity = comparable(retrieval, queries, images)
    same = retrieval.identities[queries][:, None] == retrieval.identities[images]
    meet = similarity > REMOVED
    return Verification.of(similarity[same & meet], similarity[~same & meet])


def _share(found: Tensor) -> float:
    return float(found.double().mean())


def open_set_values(scores: Mapping[str, OpenSetScores]) -> dict[str, Any]:
    """What a file keeps: shares, by setting and promised rate."""
    return {
        setting: {
            "measured": score.measured,
            **{
                name: {str(rate): list(values) for rate, values in getattr(score, name).items()}
                for name in ("detected", "detected_as_calibrated", "real", "thresholds")
            },
            "real_by_cameras": {
                str(rate): {f"{mine} in {theirs}": value for (mine, theirs), value in pairs.items()}
                for rate, pairs in score.by_cameras.items()
            },
            "verification": {str(rate): score.verification.at(rate) for rate in FALSE_ACCEPTS},
            "equal_error": score.verification.equal_error,
            "enrolled": score.enrolled,
            "non_mated": score.non_mated,
        }
        for setting, score in scores.items()
    }


def open_set_tables(scores: Mapping[str, OpenSetScores]) -> list[tuple[Sequence[str], Sequence[Sequence[str]]]]:
    """Header and rows of what is told: how many are found, what thresholds hold, and where false alarms come from."""
    found = [
        [setting, *(_spread(score.detected[rate]) for rate in FALSE_ALARMS), str(score.enrolled), str(score.non_mated)]
        for setting, score in scores.items()
    ]
    promises = [
        [
            setting if rate == FALSE_ALARMS[0] else "",
            _percent(rate),
            f"{fmean(score.thresholds[rate]):.4f}",
            _spread(score.real[rate]),
            _spread(score.detected_as_calibrated[rate]),
        ]
        for setting, score in scores.items()
        for rate in FALSE_ALARMS
    ]
    cameras = [
        [
            setting,
            f"{mine} in {theirs}",
            *(f"{100 * score.by_cameras[rate][mine, theirs]:.2f}" for rate in FALSE_ALARMS),
        ]
        for setting, score in scores.items()
        for mine, theirs in score.by_cameras[FALSE_ALARMS[0]]
    ]
    told_apart = [
        [
            setting,
            *(f"{100 * score.verification.at(rate):.2f}" for rate in FALSE_ACCEPTS),
            f"{100 * score.verification.equal_error:.2f}",
        ]
        for setting, score in scores.items()
    ]
    dir_at = [f"DIR at FAR {_percent(rate)}" for rate in FALSE_ALARMS]
    promised = [f"real FAR at {_percent(rate)}" for rate in FALSE_ALARMS]
    return [
        (["open set", *dir_at, "people enrolled", "non-mated searches"], found),
        (["threshold", "promised FAR", "similarity", "real FAR", "DIR"], promises),
        (["threshold", "query's camera in gallery's", *promised], cameras),
        (["verification", *(f"TAR at FAR {_percent(rate)}" for rate in FALSE_ACCEPTS), "equal error"], told_apart),
    ]


def _percent(rate: float) -> str:
    return f"{100 * rate:g} %"


def _spread(shares: Sequence[float]) -> str:
    percent = [100 * share for share in shares]
    return f"{fmean(percent):.2f}" + (f" ± {stdev(percent):.2f}" if len(percent) > 1 else "")
