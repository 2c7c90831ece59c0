"""Verification: against a released evaluator's numbers, and against the definition."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import recipe
from torch import Tensor

from mpanet_pl.evaluation.verification import Verification

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


def test_points_between_two_others_are_left_out_as_fast_reid_does() -> None:
    """Rejected, of two and of three: (1, 1) where two are equal, then (1, 2), which lies on a line, and (1, 3)."""
    pairs = Verification.of(torch.tensor([0.0, 3.0]), torch.tensor([0.0, 1.0, 2.0]))
    assert pairs.true_rejection_at(0.5) == pytest.approx(1 / 3)


@pytest.mark.parametrize("count", [3, 10, 49])
def test_a_share_of_the_others_is_let_in_however_it_rounds(count: int) -> None:
    different = torch.arange(count).float()
    pairs = Verification.of(different + 0.5, different)
    for accepted in range(count):
        assert pairs.at(accepted / count) == (accepted + 1) / count


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
