"""Loss terms of a user's own: called, weighted, learned and remembered like the others."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from lab import stand_in_a_lab
from torch import Tensor

from mpanet_pl.errors import UserError
from mpanet_pl.losses import MPANetLoss, Terms
from mpanet_pl.network import Embedding

SPREAD = {"_target_": "my_lab.Spread", "weight": 0.3, "start": 2.0}
BANK = {"_target_": "my_lab.Bank", "weight": 1.0}
IDENTITIES, INFRARED = torch.tensor([0, 2, 2, 1]), torch.tensor([True, False, True, False])


@pytest.fixture(autouse=True)
def _in_a_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in_a_lab(tmp_path, monkeypatch)


def seen() -> Embedding:
    torch.manual_seed(1)
    return Embedding(torch.rand(4, 2, 3, 2), torch.randn(4, 6).requires_grad_(), torch.randn(4, 6))


def test_it_is_weighted_with_the_others() -> None:
    plain, more = (
        MPANetLoss(6, 3, identity=0, modality_identity=0, mutual=0),
        MPANetLoss(6, 3, identity=0, modality_identity=0, mutual=0, extra={"spread": SPREAD}),
    )
    terms, with_own = (loss(seen(), IDENTITIES, INFRARED) for loss in (plain, more))
    own = 2 * seen().descriptor.square().mean()
    assert list(with_own) == ["center_cluster", "separation", "spread", "total"]
    torch.testing.assert_close(with_own["spread"], own)
    torch.testing.assert_close(with_own["total"], terms["total"] + 0.3 * own)


def test_its_parameters_learn_and_its_buffers_are_remembered() -> None:
    loss = MPANetLoss(6, 3, extra={"spread": SPREAD})
    loss(seen(), IDENTITIES, INFRARED)["total"].backward()
    assert loss.extra["spread"].factor.grad == pytest.approx(0.3 * seen().descriptor.square().mean().item())
    assert loss.state_dict()["extra.spread.steps"] == 1


def test_it_gets_what_its_signature_asks_for() -> None:
    loss = MPANetLoss(6, 3, extra={"spread": SPREAD, "bank": BANK})
    assert loss.asks == ("cameras", "index", "epoch")
    assert MPANetLoss(6, 3, extra={"spread": SPREAD}).asks == ()
    rows = torch.arange(4)
    loss(seen(), IDENTITIES, INFRARED, cameras=rows + 1, epoch=7, index=rows)
    ((cameras, epoch, index),) = loss.extra["bank"].told
    assert torch.equal(cameras, rows + 1)
    assert epoch == 7
    assert torch.equal(index, rows)
    assert loss.extra["bank"].seen.shape == (3, 6)


def test_a_weight_of_zero_removes_it() -> None:
    loss = MPANetLoss(6, 3, extra={"spread": SPREAD | {"weight": 0}})
    assert "spread" not in loss(seen(), IDENTITIES, INFRARED)
    assert loss.state_dict().keys() == MPANetLoss(6, 3).state_dict().keys()


def test_it_alone_is_something_to_learn_from() -> None:
    off = dict.fromkeys(["identity", "modality_identity", "mutual", "center_cluster", "separation"], 0.0)
    loss = MPANetLoss(6, 3, **off, extra={"spread": SPREAD})  # type: ignore[arg-type]
    assert list(loss(seen(), IDENTITIES, INFRARED)) == ["spread", "total"]
    assert not loss.classifies


def test_it_is_computed_in_float32_under_autocast() -> None:
    loss, half = MPANetLoss(6, 3, extra={"spread": SPREAD}), Embedding(*(part.bfloat16() for part in seen()))
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(half, IDENTITIES, INFRARED)["spread"].dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("own", {"weight": 1.0}, r"extra\.own is {_target_: CLASS, weight: NUMBER, …}, got {'weight': 1.0}"),
        ("own", SPREAD | {"weight": "much"}, r"own must be a number, got 'much'"),
        ("own", SPREAD | {"weight": -1.0}, "own must be at least 0, got -1.0"),
        ("total", SPREAD, r"extra\.total: choose another name"),
        ("mutual", SPREAD, r"extra\.mutual: choose another name"),
        ("a/b", SPREAD, r"extra\.a/b: choose another name"),
        ("own", {"_target_": "my_lab.Nobody", "weight": 1.0}, r"extra\.own: my_lab.Nobody cannot be found"),
        ("own", SPREAD | {"stop": 1}, r"extra\.own: my_lab.Spread is refused: .*'stop'"),
        ("own", {"_target_": "collections.OrderedDict", "weight": 1.0}, r"is no torch\.nn\.Module"),
    ],
)
def test_what_is_wrong_is_said(name: str, settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        MPANetLoss(6, 3, extra={name: settings})


def test_a_loss_is_a_scalar() -> None:
    loss = MPANetLoss(6, 3, extra={"rows": {"_target_": "my_lab.Rows", "weight": 1.0}})
    with pytest.raises(UserError, match=r"extra.rows gives a tensor of shape \(4,\): a loss is a tensor of shape \(\)"):
        loss(seen(), IDENTITIES, INFRARED)


class OfTwins(torch.nn.Module):
    """How far the criterion's twins are from their classifiers."""

    classifies = True

    def forward(self, embedding, identities, infrared, *, criterion):
        return (criterion.visible_twin.weight - criterion.visible_classifier.weight).square().sum()


def test_a_term_is_added_by_a_public_method_and_may_ask_for_the_criterion() -> None:
    loss = MPANetLoss(6, 3)
    loss.add_term("twins", OfTwins(), weight=2.0)
    with torch.no_grad():
        loss.visible_classifier.weight.add_(1)
    terms = loss(seen(), IDENTITIES, INFRARED)
    assert terms["twins"].item() == pytest.approx(3 * 6)
    plain = sum(loss.weights[name] * value for name, value in terms.items() if name not in ("twins", "total"))
    torch.testing.assert_close(terms["total"], plain + 2 * terms["twins"])
    with pytest.raises(UserError, match="choose another name"):
        loss.add_term("twins", OfTwins(), weight=1.0)


def test_a_term_says_what_it_misses() -> None:
    loss = MPANetLoss(6, 3, extra={"bank": BANK})
    with pytest.raises(UserError, match="term bank asks for cameras, index, epoch"):
        loss(seen(), IDENTITIES, INFRARED)


class Wide(NamedTuple):
    maps: Tensor
    descriptor: Tensor
    embedding: Tensor
    attention: Tensor


class OfAttention(torch.nn.Module):
    def forward(self, embedding, identities, infrared):
        return embedding.attention.mean()


def test_an_embedding_carries_more_named_tensors_in_float32() -> None:
    criterion = Terms(6, 3)
    criterion.add_term("attention", OfAttention(), weight=1.0)
    wide = Wide(*seen(), torch.full((4, 2), 0.5, dtype=torch.bfloat16))
    term = criterion(wide, IDENTITIES, INFRARED)["attention"]
    assert (term.item(), term.dtype) == (0.5, torch.float32)
