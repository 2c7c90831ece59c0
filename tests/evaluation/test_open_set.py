"""Open set: against released evaluators' numbers, and against the definition, one search after the other."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation import made
from golden import recipe
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import FolderProtocol, RegDBProtocol, SYSUProtocol
from mpanet_pl.evaluation.open_set import (
    CALIBRATING,
    ENROLLED,
    FALSE_ALARMS,
    HELD_OUT,
    PROMISED,
    WITHHELD,
    Calibration,
    OpenSetScores,
    Searches,
    Verification,
    calibrate,
    evaluate_open_set,
    groups,
    open_set_tables,
    open_set_values,
    threshold_for,
)

ROC = Path(recipe.HERE) / "beyond/roc"
GOLDEN = json.loads(ROC.with_suffix(".json").read_text())


def released(name: str) -> Tensor:
    with np.load(ROC.with_suffix(".npz")) as stored:
        return torch.from_numpy(stored[name])


def golden_pairs() -> Verification:
    """By the release's rules: no image of the query's own person and camera."""
    similarity = -released("roc_dist")
    same = released("roc_query_id")[:, None] == released("roc_gallery_id")
    meet = ~(same & (released("roc_query_cam")[:, None] == released("roc_gallery_cam")))
    assert (int((same & meet).sum()), int((~same & meet).sum())) == (25, 262)
    return Verification.of(similarity[same & meet], similarity[~same & meet])


def test_verification_equals_what_is_commonly_meant() -> None:
    pairs = golden_pairs()
    for name, expected in GOLDEN["roc"]["usual"]["values"].items():
        assert pairs.at(float(name.removeprefix("TAR@FAR<="))) == pytest.approx(expected)
    assert pairs.area == pytest.approx(GOLDEN["roc"]["auc"])


def test_verification_can_be_told_as_fast_reid_does() -> None:
    pairs = golden_pairs()
    for name, expected in GOLDEN["roc"]["released"].items():
        assert pairs.true_rejection_at(float(name.removeprefix("TPR@FPR="))) == pytest.approx(expected)


def test_verification_equals_its_definition_with_ties() -> None:
    draw = torch.Generator().manual_seed(0)
    same = torch.randint(0, 12, (40,), generator=draw).float() + 4
    different = torch.randint(0, 12, (300,), generator=draw).float()
    pairs = Verification.of(same, different)
    for rate in (0.0, 0.01, 0.1, 0.3, 1.0):
        allowed = [t for t in range(-1, 20) if float((different > t).double().mean()) <= rate]
        assert pairs.at(rate) == pytest.approx(max(float((same > t).double().mean()) for t in allowed))
    errors = [
        (float((different > t).double().mean()), float((same <= t).double().mean()))
        for t in [x / 2 for x in range(-2, 40)]
    ]
    wrong, missed = min(errors, key=lambda pair: abs(pair[0] - pair[1]))
    assert pairs.equal_error == pytest.approx((wrong + missed) / 2)


def test_detection_and_false_alarms_equal_the_released_evaluator() -> None:
    golden, scores = GOLDEN["open_set"], released("open_score")
    column = released("open_label").to(torch.int64).argmax(1).where(released("open_label").bool().any(1), -1)
    searches = Searches.of(scores, column)
    assert int(searches.mated.sum()) == golden["mated"]
    for place, rate in enumerate(golden["asked_FARs"]):
        threshold = threshold_for(searches.best[~searches.mated], rate)
        assert threshold == pytest.approx(golden["thresholds"][place], abs=2e-8)
        assert searches.false_alarms(threshold) == pytest.approx(golden["reached_FARs"][place], abs=3e-8)
        for number, rank in enumerate(golden["ranks"]):
            expected = golden["DIR_rows_FAR_columns_rank"][place][number]
            assert searches.detected(threshold, rank) == pytest.approx(expected, abs=3e-8)
    for rank, expected in zip(golden["ranks"], golden["closed_set_CMC_at_ranks"], strict=True):
        assert searches.detected(-torch.inf, rank) == pytest.approx(expected)


def test_of_equal_similarities_the_wrong_person_is_found() -> None:
    searches = Searches.of(torch.tensor([[0.5, 0.5], [0.7, 0.2]]), torch.tensor([0, 0]))
    assert searches.place.tolist() == [2, 1]
    assert searches.detected(0.0) == 0.5


def people(count: int = 24, seed: int = 0, spread: float = 0.8) -> tuple[Tensor, Catalogue]:
    """Each person twice under each of four cameras, two of them infrared."""
    draw = torch.Generator().manual_seed(seed)
    rows = [
        (f"c{camera}/{person}/{k}.jpg", person, camera, camera > 2)
        for person in range(count)
        for camera in (1, 2, 3, 4)
        for k in range(2)
    ]
    centres = torch.randn(count, 16, generator=draw)
    embeddings = centres[[row[1] for row in rows]] + spread * torch.randn(len(rows), 16, generator=draw)
    return embeddings, Catalogue.from_rows(rows)


def test_a_draw_parts_the_people_and_depends_on_nothing_else() -> None:
    everyone = torch.arange(1, 97)
    first = groups(everyone, 0)
    assert [int((first == kind).sum()) for kind in (ENROLLED, WITHHELD, CALIBRATING)] == [48, 24, 24]
    order = torch.randperm(96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(groups(everyone[order], 0), first[order])
    assert not torch.equal(groups(everyone, 1), first)


@pytest.mark.parametrize("protocol", [FolderProtocol(), RegDBProtocol(), SYSUProtocol(trials=2)])
def test_open_set_scores_equal_the_definition(protocol: FolderProtocol | RegDBProtocol | SYSUProtocol) -> None:
    embeddings, catalogue = people(12) if not isinstance(protocol, SYSUProtocol) else with_six_cameras()
    embeddings = embeddings.double()
    scores = evaluate_open_set(embeddings, catalogue, protocol, draws=2)
    queries = [search.queries.tolist() for search in protocol.searches(catalogue)]
    for asked, search in zip(queries, protocol.searches(catalogue), strict=True):
        for setting, trials in search.galleries.items():
            for draw in range(2):
                gallery = trials[draw % len(trials)].tolist()
                check_draw(scores[setting], draw, embeddings, catalogue, protocol, asked, gallery)


def with_six_cameras() -> tuple[Tensor, Catalogue]:
    embeddings, catalogue = people(12)
    cameras = torch.tensor([0, 1, 2, 3, 6])[catalogue.cameras]  # queries of camera 3 ignore camera 2
    return embeddings, Catalogue(catalogue.paths, catalogue.identities, cameras, catalogue.infrared)


def check_draw(
    scores: OpenSetScores,
    draw: int,
    embeddings: Tensor,
    catalogue: Catalogue,
    protocol: FolderProtocol | RegDBProtocol | SYSUProtocol,
    queries: Sequence[int],
    gallery: Sequence[int],
) -> None:
    everyone = sorted(set(catalogue.identities.tolist()))
    group = dict(zip(everyone, groups(torch.tensor(everyone), draw).tolist(), strict=True))
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    mated, strangers, calibrating = [], [], []
    for query in queries:
        person, best = int(catalogue.identities[query]), {}
        for image in gallery:
            whose = int(catalogue.identities[image])
            if group[whose] != ENROLLED:
                continue
            leaves = protocol.ignored(catalogue[torch.tensor([query])], catalogue[torch.tensor([image])])
            if leaves is None or not bool(leaves):
                near = float(
                    unit[query] @ unit[image] if protocol.normalise else -(embeddings[query] - embeddings[image]).norm()
                )
                best[whose] = max(near, best.get(whose, -np.inf))
        if group[person] == ENROLLED and person in best:
            mated.append((best[person], max(value for whose, value in best.items() if whose != person)))
        elif group[person] != ENROLLED:
            (strangers if group[person] == WITHHELD else calibrating).append(max(best.values()))
    for rate in FALSE_ALARMS:
        accepted = round(rate * len(calibrating))
        threshold = sorted(calibrating, reverse=True)[accepted - 1] if accepted else np.nextafter(max(calibrating), 9)
        assert scores.thresholds[rate][draw] == pytest.approx(threshold, abs=1e-9)
        assert scores.real[rate][draw] == pytest.approx(np.mean([best >= threshold for best in strangers]))
        found = np.mean([own >= threshold and own > other for own, other in mated])
        assert scores.detected_as_calibrated[rate][draw] == pytest.approx(found)


def test_cameras_are_told_apart() -> None:
    """A camera whose images all look alike raises the false alarms, and only its own."""
    embeddings, catalogue = people(40)
    alike = (catalogue.cameras == 4) | (catalogue.cameras == 1)
    embeddings[alike] += 6 * torch.ones(16)
    score = evaluate_open_set(embeddings, catalogue, FolderProtocol(), draws=4)["infrared_to_visible"]
    rates = score.by_cameras[0.1]
    assert rates.keys() == {(3, 1), (3, 2), (4, 1), (4, 2)}
    assert rates[4, 1] > max(rate for pair, rate in rates.items() if pair != (4, 1))


def test_people_without_likeness_keep_the_promised_rate() -> None:
    """Strangers that calibrate and strangers that test are alike, so the real rate is near the promised one."""
    embeddings, catalogue = people(400, seed=3)
    score = evaluate_open_set(embeddings, catalogue, FolderProtocol(), draws=6)["visible_to_infrared"]
    for rate in FALSE_ALARMS:
        assert np.mean(score.real[rate]) == pytest.approx(rate, abs=0.3 * rate + 0.005)
    assert "200 enrolled" in score.measured


def test_order_changes_nothing() -> None:
    embeddings, catalogue = people()
    order = torch.randperm(len(catalogue), generator=torch.Generator().manual_seed(1))
    one = evaluate_open_set(embeddings.double(), catalogue, FolderProtocol(), draws=2)
    other = evaluate_open_set(embeddings.double()[order], catalogue[order], FolderProtocol(), draws=2)
    for setting, score in one.items():
        assert score.real == other[setting].real
        assert score.detected == other[setting].detected


def test_tables_and_values_say_the_same() -> None:
    scores = evaluate_open_set(*people(), FolderProtocol(), draws=3)
    found, promises, cameras, verification = open_set_tables(scores)
    values = open_set_values(scores)
    assert json.loads(json.dumps(values)) == values
    for row, (setting, score) in enumerate(scores.items()):
        mean, spread = 100 * np.mean(score.detected[0.1]), 100 * np.std(score.detected[0.1], ddof=1)
        assert found[1][row][0] == setting
        assert found[1][row][3] == f"{mean:.2f} ± {spread:.2f}"
        assert values[setting]["detected"]["0.1"] == score.detected[0.1]
        assert verification[1][row][1] == f"{100 * score.verification.at(0.1):.2f}"
    assert [row[1] for row in promises[1]] == ["1 %", "5 %", "10 %"] * 2
    assert [row[1] for row in cameras[1][:4]] == ["3 in 1", "3 in 2", "4 in 1", "4 in 2"]


def test_too_few_people_are_told() -> None:
    with pytest.raises(UserError, match="too few test people for an open set"):
        evaluate_open_set(*people(2), FolderProtocol())
    with pytest.raises(UserError, match="at least one draw, got 0"):
        evaluate_open_set(*made.small(1), FolderProtocol(), draws=0)


def best_of_others(embeddings: Tensor, catalogue: Catalogue, kept: set[int], infrared: bool) -> list[float]:
    """Each query's best cosine to a kept person's image of the other modality, but its own person's."""
    unit = embeddings / embeddings.norm(dim=1, keepdim=True)
    whose, side = catalogue.identities.tolist(), catalogue.infrared.tolist()
    return [
        max(
            float(unit[query] @ unit[image])
            for image in range(len(whose))
            if side[image] != infrared and whose[image] in kept - {whose[query]}
        )
        for query in range(len(whose))
        if side[query] == infrared
    ]


def test_a_threshold_is_calibrated_on_people_who_search_one_another() -> None:
    embeddings, catalogue = people(9)
    calibration = Calibration(embeddings.double(), catalogue)
    found = calibrate(calibration, RegDBProtocol())  # which compares distances; searches compare cosines
    everyone = set(range(9))
    for setting, infrared in (("visible_to_thermal", False), ("thermal_to_visible", True)):
        best = sorted(best_of_others(*calibration[:2], everyone, infrared), reverse=True)
        for rate in FALSE_ALARMS:
            assert found["settings"][setting][str(rate)] == pytest.approx(
                best[round(rate * len(best)) - 1] if round(rate * len(best)) else best[0], abs=1e-9
            )
    promised = {setting: of[str(PROMISED)] for setting, of in found["settings"].items()}
    assert found["value"] == max(promised.values()) == promised[found["setting"]]
    assert (found["calibrated_on"], found["false_alarm_rate"], found["similarity"]) == (HELD_OUT, 0.05, "cosine")
    assert (found["people"], found["searches"]) == (9, 36)
    assert json.loads(json.dumps(found)) == found


def test_thresholds_of_held_out_people_are_tested_on_the_test_people() -> None:
    """For a gallery of as many people as the test's, chosen by a hash; all who are not enrolled search as strangers."""
    embeddings, catalogue = people(16)
    others, theirs = people(12, seed=5)
    calibration = Calibration(others.double(), theirs)
    scores = evaluate_open_set(embeddings.double(), catalogue, FolderProtocol(), draws=2, calibration=calibration)
    for setting, infrared in (("visible_to_infrared", False), ("infrared_to_visible", True)):
        score = scores[setting]
        assert "thresholds calibrated on held-out training people" in score.measured
        assert (score.enrolled, score.non_mated) == (8, 8 * 4)
        for draw in range(2):
            key = [hashlib.sha256(f"{draw} {person}".encode()).digest() for person in range(12)]
            kept = set(sorted(range(12), key=key.__getitem__)[:8])
            best = sorted(best_of_others(*calibration[:2], kept, infrared), reverse=True)
            assert score.thresholds[0.1][draw] == pytest.approx(best[round(0.1 * len(best)) - 1], abs=1e-9)
            everyone = torch.arange(16)
            enrolled = set(everyone[groups(everyone, draw) == ENROLLED].tolist())
            alone = best_of_others(embeddings.double(), catalogue, enrolled, infrared)
            asked = [
                p
                for p, ir in zip(catalogue.identities.tolist(), catalogue.infrared.tolist(), strict=True)
                if ir == infrared
            ]
            strange = [best for best, person in zip(alone, asked, strict=True) if person not in enrolled]
            assert score.real[0.1][draw] == pytest.approx(np.mean([b >= score.thresholds[0.1][draw] for b in strange]))


def test_nobody_to_calibrate_on_is_no_threshold() -> None:
    embeddings, catalogue = people(1)
    assert calibrate(Calibration(embeddings, catalogue), FolderProtocol()) == {}
