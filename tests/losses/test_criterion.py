import math
import shutil

import pytest
import torch
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.losses import MPANetLoss
from mpanet_pl.network import Embedding

DIMENSION, PEOPLE = 12, 5
IDENTITIES = torch.tensor([0, 3, 3, 1, 0, 0, 4, 1])
INFRARED = torch.tensor([True, False, True, False, False, True, True, True])


def criterion(**weights: float) -> MPANetLoss:
    torch.manual_seed(0)
    triplet = {"_target_": "mpanet_pl.methods.triplet.Triplet", "weight": weights.pop("triplet", 1.0)}
    loss = MPANetLoss(DIMENSION, PEOPLE, **weights, extra={"triplet": triplet})
    for name, parameter in loss.named_parameters():
        if "twin" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return loss.double()


def seen() -> Embedding:
    torch.manual_seed(1)
    parts = torch.rand(8, 3, 4, 2), torch.randn(8, DIMENSION), torch.randn(8, DIMENSION)
    return Embedding(*(part.double().requires_grad_() for part in parts))


def gradients(terms: dict[str, Tensor], embedding: Embedding) -> Embedding:
    return Embedding(*torch.autograd.grad(terms["total"], tuple(embedding)))


def test_total_is_the_weighted_sum() -> None:
    terms = criterion()(seen(), IDENTITIES, INFRARED)
    weights = dict(zip(terms, [1.0, 1.0, 1.0, 2.5, 1.0, 0.5, 1.0], strict=False))
    assert list(weights) == [
        "identity",
        "identity_visible",
        "identity_infrared",
        "mutual",
        "center_cluster",
        "separation",
        "triplet",
    ]
    torch.testing.assert_close(terms["total"], torch.stack([w * terms[name] for name, w in weights.items()]).sum())


def test_mutual_compares_each_row_with_the_twin_of_the_other_modality() -> None:
    loss, embedding = criterion(), seen()
    expected = []
    for z, infrared in zip(embedding.embedding, INFRARED, strict=True):
        own, twin = (
            (loss.infrared_classifier, loss.visible_twin) if infrared else (loss.visible_classifier, loss.infrared_twin)
        )
        p, q = own(z).softmax(0), twin(z.detach()).softmax(0)
        expected.append((p * (p / q).log()).sum())
    terms = loss(embedding, IDENTITIES, INFRARED)
    torch.testing.assert_close(terms["mutual"], torch.stack(expected).mean())
    ours, theirs = (
        torch.autograd.grad(value, embedding.embedding, retain_graph=True)[0]
        for value in (terms["mutual"], torch.stack(expected).mean())
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("weights", "terms_gone", "parameters"),
    [
        ({"identity": 0}, {"identity"}, 4),
        ({"modality_identity": 0}, {"identity_visible", "identity_infrared"}, 5),
        ({"mutual": 0}, {"mutual"}, 3),
        ({"mutual": 0, "modality_identity": 0}, {"mutual", "identity_visible", "identity_infrared"}, 1),
        ({"center_cluster": 0}, {"center_cluster"}, 5),
        ({"separation": 0}, {"separation"}, 5),
        ({"triplet": 0}, {"triplet"}, 5),
    ],
)
def test_a_weight_of_zero_removes_the_term_and_what_only_it_needs(
    weights: dict[str, float], terms_gone: set[str], parameters: int
) -> None:
    whole, loss = criterion(), criterion(**weights)
    assert len(list(loss.parameters())) == parameters
    assert whole(seen(), IDENTITIES, INFRARED).keys() - loss(seen(), IDENTITIES, INFRARED).keys() == terms_gone


def test_some_weight_is_needed() -> None:
    zero = dict.fromkeys(["identity", "modality_identity", "mutual", "center_cluster", "separation"], 0.0)
    with pytest.raises(UserError, match="nothing to learn"):
        MPANetLoss(DIMENSION, PEOPLE, **zero)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mean_rate": -0.1}, "mean_rate must be between 0 and 1, got -0.1"),
        ({"mean_rate": 1.1}, "mean_rate must be between 0 and 1, got 1.1"),
        (
            {"margin": -1.0, "mutual": math.inf},
            r"mutual must be at least 0, got inf.\s+margin must be at least 0, got -1.0",
        ),
        ({"num_identities": 0}, "num_identities must be at least 1, got 0"),
    ],
)
def test_numbers_out_of_range_are_told(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        MPANetLoss(**{"dimension": DIMENSION, "num_identities": PEOPLE} | settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("edge", [{"mean_rate": 0.0}, {"mean_rate": 1.0}, {"margin": 0.0}, {"num_identities": 1}])
def test_the_edges_are_in_range(edge: dict[str, float]) -> None:
    MPANetLoss(**{"dimension": DIMENSION, "num_identities": PEOPLE} | edge)  # type: ignore[arg-type]


def test_permuting_the_batch_leaves_every_loss() -> None:
    loss, embedding, order = criterion(), seen(), torch.randperm(8)
    permuted = Embedding(*(part[order] for part in embedding))
    terms = loss(embedding, IDENTITIES, INFRARED)
    torch.testing.assert_close(loss(permuted, IDENTITIES[order], INFRARED[order]), terms)


@pytest.mark.parametrize("modality", [True, False], ids=["infrared", "visible"])
@pytest.mark.parametrize("identities", [IDENTITIES, torch.full((8,), 2), torch.arange(8) % 5])
def test_one_modality_alone_is_finite_and_the_other_is_zero(modality: bool, identities: Tensor) -> None:
    loss, embedding = criterion(), seen()
    terms = loss(embedding, identities, torch.full((8,), modality))
    assert terms["identity_visible" if modality else "identity_infrared"] == 0
    assert all(term.isfinite() for term in terms.values())
    assert all(part.isfinite().all() for part in gradients(terms, embedding))
    terms = loss(embedding, identities, torch.full((8,), modality))
    terms["total"].backward()
    learned = {name: weight.grad for name, weight in loss.named_parameters() if weight.requires_grad}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in learned.values())


def test_one_identity_has_no_other_to_be_told_from() -> None:
    terms = criterion()(seen(), torch.full((8,), 2), INFRARED)
    assert terms["triplet"] == 0
    assert all(term.isfinite() for term in terms.values())


def test_twins_begin_as_copies_and_follow() -> None:
    loss = MPANetLoss(DIMENSION, PEOPLE)
    assert torch.equal(loss.visible_twin.weight, loss.visible_classifier.weight)
    twin = loss.infrared_twin.weight.clone()
    torch.nn.init.normal_(loss.infrared_classifier.weight)
    for epoch, rate in ((1, 0.2), (150, 0.2 * 100 / 151)):
        loss.follow(epoch)
        twin = (1 - rate) * twin + rate * loss.infrared_classifier.weight
        torch.testing.assert_close(loss.infrared_twin.weight, twin)
        assert loss.follow_rate(epoch) == pytest.approx(rate)


def test_twins_are_remembered_and_never_learn() -> None:
    loss = criterion()
    loss(seen(), IDENTITIES, INFRARED)["total"].backward()
    twins = {name: weight for name, weight in loss.named_parameters() if "twin" in name}
    assert len(twins) == 2
    assert twins.keys() <= loss.state_dict().keys()
    assert all(weight.grad is None and not weight.requires_grad for weight in twins.values())


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_losses_are_computed_in_float32_under_autocast(half: torch.dtype) -> None:
    loss, embedding = criterion().float(), Embedding(*(part.float() for part in seen()))
    expected = loss(embedding, IDENTITIES, INFRARED)
    with torch.autocast("cpu", half):
        terms = loss(embedding, IDENTITIES, INFRARED)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    torch.testing.assert_close(terms, expected, rtol=0, atol=0)


BACKENDS = [
    "aot_eager",
    pytest.param(
        "inductor",
        marks=[pytest.mark.slow, pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")],
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_it_compiles_without_a_graph_break(backend: str) -> None:
    loss, embedding = criterion().float(), Embedding(*(part.detach().float().requires_grad_() for part in seen()))
    expected = loss(embedding, IDENTITIES, INFRARED)
    loss.compile(fullgraph=True, backend=backend)
    terms = loss(embedding, IDENTITIES, INFRARED)
    torch.testing.assert_close(terms, expected)
    assert all(part.isfinite().all() for part in gradients(terms, embedding))
    loss.follow(1)
    assert loss(embedding, IDENTITIES, INFRARED)["mutual"] < terms["mutual"]  # it sees the twins that moved


def test_accuracy_is_that_of_the_identity_classifier() -> None:
    loss = criterion()
    loss.identity_classifier.weight.data = torch.eye(PEOPLE, DIMENSION, dtype=torch.float64)
    embedding = torch.eye(PEOPLE, DIMENSION, dtype=torch.float64)[[0, 1, 2, 2]]
    assert loss.accuracy(embedding, torch.tensor([0, 1, 2, 3])) == 0.75
