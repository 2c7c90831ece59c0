"""Who calibrates: people who search one another, by every pair of modalities, one image each or all."""

import hashlib

import numpy as np
import pytest
import torch
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.calibration import HELD_OUT, Calibration, calibrate
from mpanet_pl.evaluation.impostors import SCALES, laws_of
from mpanet_pl.evaluation.thresholds import ALL, SINGLE


def people(count: int = 22, seed: int = 0) -> tuple[Tensor, Catalogue]:
    """Each person twice under each of three cameras, one of them infrared."""
    draw = torch.Generator().manual_seed(seed)
    rows = [(f"c{c}/{who}/{k}.jpg", who, c, c > 2) for who in range(count) for c in (1, 2, 3) for k in range(2)]
    looks = torch.randn(count, 16, generator=draw, dtype=torch.float64)
    noise = torch.randn(len(rows), 16, generator=draw, dtype=torch.float64)
    return looks[[row[1] for row in rows]] + 0.8 * noise, Catalogue.from_rows(rows)


def test_laws_are_those_of_searches_written_out() -> None:
    embeddings, catalogue = people()
    threshold = calibrate(Calibration(3 * embeddings, catalogue))
    assert threshold is not None
    assert threshold.calibrated_on == HELD_OUT
    unit = (embeddings / embeddings.norm(dim=1, keepdim=True)).numpy()
    who, infrared = catalogue.identities.tolist(), catalogue.infrared.tolist()
    hashes = [hashlib.sha256(path.encode()).digest() for path in catalogue.paths]
    kinds = {(s.queries, s.gallery, s.shots): s for s in threshold.settings}
    assert len(kinds) == len(threshold.settings) == 2 * 3 * 2
    for (queries, gallery, shots), setting in kinds.items():
        images = [row for row in range(len(who)) if gallery in ("both", "infrared" if infrared[row] else "visible")]
        if shots == SINGLE:
            images = [
                min((row for row in images if who[row] == person), key=hashes.__getitem__) for person in range(22)
            ]
        asked = [row for row in range(len(who)) if infrared[row] == (queries == "infrared")]
        asked.sort(key=catalogue.paths.__getitem__)
        best = np.full((len(asked), 22), -np.inf)
        for place, query in enumerate(asked):
            for image in images:
                best[place, who[image]] = max(best[place, who[image]], unit[query] @ unit[image])
        expected = laws_of(SCALES["cosine"].of(best), np.array([who[row] for row in asked]), [0.05, 0.1])
        assert [law.rate for law in setting.laws] == [0.05, 0.1]  # 22 people cannot promise 1 %
        for law, right in zip(setting.laws, expected, strict=True):
            assert law[:4] == pytest.approx(right[:4])
        assert (setting.people, setting.searches) == (22, len(asked))
        assert setting.images == pytest.approx(len(images) / 22)
    assert kinds["visible", "both", ALL].images == 6


def test_order_changes_nothing() -> None:
    embeddings, catalogue = people()
    order = torch.randperm(len(catalogue), generator=torch.Generator().manual_seed(1))
    one, other = (
        calibrate(Calibration(embeddings, catalogue)),
        calibrate(Calibration(embeddings[order], catalogue[order])),
    )
    assert one is not None
    assert other is not None
    for mine, theirs in zip(one.settings, other.settings, strict=True):
        assert [law[:4] for law in mine.laws] == [pytest.approx(law[:4]) for law in theirs.laws]


def test_people_of_one_modality_calibrate_that_one() -> None:
    embeddings, catalogue = people()
    threshold = calibrate(Calibration(embeddings[~catalogue.infrared], catalogue[~catalogue.infrared]))
    assert threshold is not None
    assert {(setting.queries, setting.gallery) for setting in threshold.settings} == {("visible", "visible")}


def test_too_few_people_leave_no_threshold() -> None:
    """Ten per cent need nine."""
    assert calibrate(Calibration(*people(8))) is None
    threshold = calibrate(Calibration(*people(9)))
    assert threshold is not None
    assert {law.rate for setting in threshold.settings for law in setting.laws} == {0.1}


def test_a_network_that_answers_the_same_for_everyone_leaves_none() -> None:
    embeddings, catalogue = people()
    assert calibrate(Calibration(torch.ones_like(embeddings), catalogue)) is None


def test_what_is_no_number_is_refused() -> None:
    embeddings, catalogue = people()
    embeddings[3] = torch.nan
    with pytest.raises(UserError, match=r"1 of 132 embeddings are not finite numbers.*row 3"):
        calibrate(Calibration(embeddings, catalogue))
