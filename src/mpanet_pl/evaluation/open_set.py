"""Open set: who is searched for may not be there, so a match has to be good enough, and a threshold says how good.

A search is *mated* where its person is enrolled in the gallery. A person is as similar as the best of their images.
With a threshold t, the false-alarm rate (FAR, FPIR) is the share of non-mated searches whose best person reaches t, and
the detection and identification rate (DIR, TPIR) the share of mated ones whose own person reaches it and ranks first
(NISTIR 8271; ISO/IEC 19795-1). Both depend on how many people are enrolled.

The protocol is this package's own. A threshold that promises a rate is calibrated on people who were neither trained on
nor tested, held-out training people where a run has them: each searches a gallery of the others, and a law carries the
threshold over to the test's gallery. For each draw a hash of the draw and the person's number then parts the test
people: some are enrolled, some withheld from the gallery, and these tell the rate that the threshold really has.
Without held-out people a part of the test people only calibrates, in the test's own gallery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.calibration import SEARCHES, Calibration, evenly
from mpanet_pl.evaluation.enrolling import Best, Draw, draw_of, share
from mpanet_pl.evaluation.gallery_sizes import Trade, trades
from mpanet_pl.evaluation.impostors import SCALES, Law, laws_of
from mpanet_pl.evaluation.intervals import ratio_interval
from mpanet_pl.evaluation.ranking import REMOVED
from mpanet_pl.evaluation.retrieval import Retrieval, lengths_of
from mpanet_pl.evaluation.scoring import DISTANCES, check_embeddings, check_finite, name_of
from mpanet_pl.evaluation.thresholds import FALSE_ALARMS, least_people, percent, threshold_for
from mpanet_pl.evaluation.verification import Verification
from mpanet_pl.interfaces import RetrievalProtocol, Search
from mpanet_pl.system.precision import full_precision

ENOUGH = 30  # false alarms
OF_TEST_PEOPLE = "people neither enrolled nor tested"

Shares = Mapping[float, Sequence[float]]  # rate -> by draw
Ends = Mapping[float, tuple[float, float]]  # rate -> 95 % interval over people


class OpenSetScores(NamedTuple):
    """One setting's: shares by draw, for each promised false-alarm rate, and intervals over the test people."""

    detected: Shares  # at the threshold that really has the rate among the withheld people
    real: Shares  # the false-alarm rate of the calibrated threshold
    detected_as_calibrated: Shares
    thresholds: Shares
    intervals: Mapping[str, Ends]  # of `real` and `detected_as_calibrated`
    by_cameras: Mapping[float, Mapping[tuple[int, int], float]]  # (query's, gallery's) -> real rate, of all draws
    verification: Verification  # pairs of the first gallery
    by_size: Mapping[int, Trade]  # people enrolled -> what false alarms cost, of the first gallery
    calibrating: int  # people
    enrolled: int  # people, in the first draw
    non_mated: int  # searches, in the first draw
    measured: str

    def kept(self, rate: float) -> bool:
        """Whether so many people can promise the rate."""
        return self.calibrating >= least_people(rate)


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
    check_finite(lengths_of(embeddings), catalogue)
    if draws < 1:
        raise UserError(f"An open set needs at least one draw, got {draws}")
    scores = {}
    with full_precision(embeddings.device):
        strangers = _strangers_by_setting(calibration, protocol.elsewhere()) if calibration else {}
        for search in protocol.searches(catalogue):
            retrieval = Retrieval(embeddings, catalogue, search.measured_by or protocol)
            for setting in search.galleries:
                scores[setting] = _setting(retrieval, search, setting, draws, strangers.get(setting))
    return scores


class _Strangers(NamedTuple):
    """People who searched a gallery of one another in one setting."""

    best: Tensor  # (S,) of all others
    laws: Mapping[float, Law]
    similarity: str
    people: int
    who: str

    @classmethod
    def of(cls, best: Best, similarity: str, who: str) -> _Strangers:
        people = best.scores.shape[1]
        promised = [rate for rate in FALSE_ALARMS if people >= least_people(rate)]
        scores = SCALES[similarity].of(best.scores.double().cpu().numpy())
        laws = laws_of(scores, best.own.cpu().numpy(), promised) if promised else ()
        found = best.of_others.amax(1)
        return cls(found[found > REMOVED], {law.rate: law for law in laws}, similarity, people, who)

    def threshold(self, rate: float, enrolled: int) -> float:
        """Carried over to a gallery of so many; of too few people the one that at most `rate` of them reach."""
        if rate in self.laws:
            return float(SCALES[self.similarity].back(self.laws[rate].at(enrolled)))
        return threshold_for(self.best, rate)


def _strangers_by_setting(calibration: Calibration, protocol: RetrievalProtocol) -> dict[str, _Strangers]:
    check_embeddings(calibration.embeddings, len(calibration.catalogue))
    check_finite(lengths_of(calibration.embeddings), calibration.catalogue)
    strangers = {}
    for search in protocol.searches(calibration.catalogue):
        rules = search.measured_by or protocol
        retrieval = Retrieval(calibration.embeddings, calibration.catalogue, rules)
        for setting, (images, *_) in search.galleries.items():
            if len(search.queries) and len(images):
                best = Best.of(retrieval, evenly(search.queries, SEARCHES), images)
                if len(best.own) and best.scores.shape[1] > 1:
                    strangers[setting] = _Strangers.of(best, rules.similarity, calibration.who)
    return strangers


class _Tally:
    """What became of the searches of all draws, for each rate."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.people = catalogue.identities.unique()  # (I,)
        self.detected, self.as_calibrated, self.real, self.thresholds = (
            {rate: list[float]() for rate in FALSE_ALARMS} for _ in range(4)
        )
        self.alarms: dict[float, dict[tuple[int, int], list[Tensor]]] = {rate: {} for rate in FALSE_ALARMS}
        shape = (len(self.people), len(FALSE_ALARMS))
        self.sums = {name: torch.zeros(shape, dtype=torch.float64) for name in ("real", "detected_as_calibrated")}
        self.sizes = {name: torch.zeros(shape[0], dtype=torch.float64) for name in self.sums}

    def add(self, drawn: Draw, thresholds: Mapping[float, float]) -> None:
        tested, strange = drawn.tested, ~drawn.tested.mated
        person = torch.searchsorted(self.people, drawn.who.cpu())
        for number, (rate, threshold) in enumerate(thresholds.items()):
            self.thresholds[rate].append(threshold)
            self.real[rate].append(tested.false_alarms(threshold))
            self.as_calibrated[rate].append(tested.detected(threshold))
            self.detected[rate].append(tested.detected(threshold_for(tested.best[strange], rate)))
            for pair, best in drawn.by_cameras.items():
                self.alarms[rate].setdefault(pair, []).append(best >= threshold)
            right = (tested.own >= threshold) & (tested.place <= 1)
            for name, of, happened in (
                ("real", strange, tested.best >= threshold),
                ("detected_as_calibrated", tested.mated, right),
            ):
                rows = of.cpu()
                self.sums[name][:, number].index_add_(0, person[rows], happened.cpu()[rows].double())
        for name, of in (("real", strange), ("detected_as_calibrated", tested.mated)):
            self.sizes[name] += torch.bincount(person[of.cpu()], minlength=len(self.people))

    def intervals(self) -> dict[str, Ends]:
        """95 %, over the test people, with all their searches in all draws."""
        found: dict[str, Ends] = {}
        for name, sums in self.sums.items():
            asked = self.sizes[name] > 0
            low, high = ratio_interval(sums[asked], self.sizes[name][asked])
            found[name] = dict(zip(FALSE_ALARMS, zip(low.tolist(), high.tolist(), strict=True), strict=True))
        return found


def _setting(
    retrieval: Retrieval, search: Search, setting: str, draws: int, strangers: _Strangers | None
) -> OpenSetScores:
    trials, protocol = search.galleries[setting], retrieval.protocol
    tally, sizes = _Tally(retrieval.catalogue), []
    for draw in range(draws):
        images = trials[draw % len(trials)]
        drawn = draw_of(retrieval, search.queries, images, draw, setting, strangers is None)
        sizes.append((drawn.calibrating_people, drawn.enrolled, int((~drawn.tested.mated).sum())))
        tally.add(
            drawn,
            {
                rate: strangers.threshold(rate, drawn.enrolled) if strangers else threshold_for(drawn.calibrating, rate)
                for rate in FALSE_ALARMS
            },
        )
    calibrating, enrolled, non_mated = sizes[0]
    if strangers:
        calibrating = strangers.people
    by_cameras = {
        rate: {pair: share(torch.cat(found)) for pair, found in sorted(pairs.items())}
        for rate, pairs in tally.alarms.items()
    }
    who = f"{calibrating} {strangers.who if strangers else OF_TEST_PEOPLE}"
    measured = (
        f"open set: {DISTANCES[protocol.similarity]}; {draws} draws of people, {enrolled} enrolled in the first, with "
        f"{non_mated} non-mated searches; thresholds calibrated on {who}{_unkept(calibrating)}{_few(non_mated)}; "
        f"{protocol.draw}; {name_of(protocol)}"
    )
    best = Best.of(retrieval, evenly(search.queries, SEARCHES), trials[0])
    return OpenSetScores(
        tally.detected,
        tally.real,
        tally.as_calibrated,
        tally.thresholds,
        tally.intervals(),
        by_cameras,
        _pairs(retrieval, search.queries, trials[0]),
        trades(best.scores.double().cpu().numpy(), best.own.cpu().numpy()),
        calibrating,
        enrolled,
        non_mated,
        measured,
    )


def _unkept(people: int) -> str:
    """Which rates so few cannot promise."""
    told = [f"{percent(rate)} needs {least_people(rate)}" for rate in FALSE_ALARMS if people < least_people(rate)]
    return f" (too few for a promise: {', '.join(told)})" if told else ""


def _few(searches: int) -> str:
    """The rule of 30 (Doddington): from 30 false alarms on, a rate is known within 30 % with 90 % confidence."""
    few = [percent(rate) for rate in FALSE_ALARMS if rate * searches < ENOUGH]
    return f"; rule of {ENOUGH}: too few searches to measure {', '.join(few)} within 30 %" if few else ""


def _pairs(retrieval: Retrieval, queries: Tensor, images: Tensor) -> Verification:
    similarity = retrieval.comparable(queries, images)
    same = retrieval.identities[queries][:, None] == retrieval.identities[images]
    meet = similarity > REMOVED
    return Verification.of(similarity[same & meet], similarity[~same & meet])
