"""Every loss against a loop written from its definition, and the laws that hold at the edges."""

import math

import pytest
import torch
from torch import Tensor

from mpanet_pl.losses import functional
from mpanet_pl.methods.triplet import triplet

IDENTITIES = torch.tensor([5, 2, 5, 9, 2, 5])  # in no order, unequal counts


@pytest.fixture
def descriptors() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_separation() -> None:
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    products = [(maps[b, i] * maps[b, j]).sum() for b in range(2) for i in range(3) for j in range(i)]
    torch.testing.assert_close(functional.separation(maps), torch.stack(products).sum() / (2 * 3))


@pytest.mark.parametrize("patterns", [0, 1])
def test_separation_needs_two_maps(patterns: int) -> None:
    assert functional.separation(torch.rand(2, patterns, 4, 5)) == 0


@pytest.mark.parametrize("identities", [IDENTITIES, torch.tensor([5, 5, 5, 2, 2, 9])], ids=["mixed", "side by side"])
@pytest.mark.parametrize("margin", [0.1, 1.5, 3.0])
def test_center_cluster(descriptors: Tensor, identities: Tensor, margin: float) -> None:
    centres = {k: descriptors[k == identities].mean(0) for k in (2, 5, 9)}
    spread = [(row - centres[int(k)]).norm().item() for row, k in zip(descriptors, identities, strict=True)]
    overlaps = [
        max(0.0, margin - math.dist(centres[i].tolist(), centres[j].tolist()))
        for i in centres
        for j in centres
        if i != j
    ]
    expected = sum(spread) / 6 + sum(overlaps) / 6
    assert functional.center_cluster(descriptors, identities, margin).item() == pytest.approx(expected, rel=1e-12)


def test_divergence() -> None:
    logits, reference = torch.randn(2, 5, 3, dtype=torch.float64)
    p, q = logits.softmax(1), reference.softmax(1)
    torch.testing.assert_close(functional.divergence(logits, reference), (p * (p / q).log()).sum() / 5)
    assert functional.divergence(logits, logits) == 0


def test_divergence_of_logits_far_apart_is_finite() -> None:
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]], requires_grad=True)
    loss = functional.divergence(logits, logits.detach().flip(1))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("rows", [[True, False, False, True], [False, True, False, False]], ids=["two", "one"])
def test_cross_entropy_of_some_rows(rows: list[bool]) -> None:
    logits, identities, mask = torch.randn(4, 3), torch.tensor([0, 2, 1, 1]), torch.tensor(rows)
    expected = torch.nn.functional.cross_entropy(logits[mask], identities[mask])
    torch.testing.assert_close(functional.cross_entropy_where(logits, identities, mask), expected)
    assert functional.cross_entropy_where(logits, identities, torch.zeros(4, dtype=torch.bool)) == 0


@pytest.mark.parametrize("loss", [functional.center_cluster, triplet])
@pytest.mark.parametrize(
    "identities",
    [[3, 3, 3, 3], [0, 1, 2, 3], [1, 1, 1, 0]],
    ids=["one identity", "one image each", "unbalanced"],
)
def test_gradients_are_finite_where_points_meet(loss, identities: list[int]) -> None:
    """All rows but the last are one point: on its centre, and at distance 0 from the other centres."""
    points = torch.ones(4, 3)
    points[3] = 2
    points.requires_grad_()
    value = loss(points, torch.tensor(identities), 0.7)
    value.backward()
    assert value.isfinite()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def test_nothing_pulls_a_descriptor_that_is_its_own_centre() -> None:
    points = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    value = functional.center_cluster(points, torch.tensor([0, 1, 2]), margin=0.0)
    value.backward()
    assert value == 0
    assert points.grad is not None
    assert not points.grad.any()


def test_distances_keep_their_digits_far_from_the_origin() -> None:
    """In float32 the inner products of these points would swallow the distances between them."""
    points = torch.randn(6, 1000) * 1e-3 + 100
    expected = functional.center_cluster(points.double(), IDENTITIES, 0.7)
    torch.testing.assert_close(functional.center_cluster(points, IDENTITIES, 0.7), expected.float())


@pytest.mark.parametrize(("device", "precision"), [("cpu", "float64"), ("cuda", "float64"), ("mps", "float32")])
def test_points_are_in_the_best_precision_of_their_device(device: str, precision: str) -> None:
    class Points:
        def __init__(self) -> None:
            self.device = torch.device(device)

        def float(self) -> str:
            return "float32"

        def double(self) -> str:
            return "float64"

    assert functional.distinct(Points()) == precision  # type: ignore[arg-type, comparison-overlap]


def test_triplet(descriptors: Tensor) -> None:
    terms = []
    for row, identity in enumerate(IDENTITIES):
        positives = [
            math.dist(descriptors[row], descriptors[i]) for i in range(6) if i != row and IDENTITIES[i] == identity
        ]
        negatives = [math.dist(descriptors[row], descriptors[i]) for i in range(6) if IDENTITIES[i] != identity]
        if positives:
            terms.append(max(0.0, 0.5 + max(positives) - min(negatives)))
    assert len(terms) == 5  # the only image of identity 9 has no positive
    result = triplet(descriptors, IDENTITIES, 0.5)
    assert result.item() == pytest.approx(sum(terms) / 5, rel=1e-12)
