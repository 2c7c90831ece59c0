"""A dataset's own weight in a joint training: the criterion on its rows alone, added to the criterion on all."""

import pytest
import torch

from mpanet_pl.data.joint import CAMERAS
from mpanet_pl.errors import UserError
from mpanet_pl.losses import MPANetLoss
from mpanet_pl.network import Embedding

IDENTITIES = torch.tensor([0, 0, 2, 2, 1, 1, 3, 3])
INFRARED = torch.tensor([True, False] * 4)
CAMERA = torch.tensor([3, 1, 2, 1, 3, 1, 2, 1]) + CAMERAS * torch.tensor([1, 1, 2, 2, 1, 1, 2, 2])


def seen() -> Embedding:
    torch.manual_seed(1)
    return Embedding(torch.rand(8, 2, 3, 2), torch.randn(8, 6), torch.randn(8, 6).requires_grad_())


def loss_with(**words: object) -> MPANetLoss:
    torch.manual_seed(2)
    extra = {"other": {"_target_": "mpanet_pl.methods.of_dataset.OfDataset", "weight": 0.5, **words}} if words else None
    return MPANetLoss(6, 4, extra=extra)


def test_a_datasets_terms_are_those_of_its_rows_alone() -> None:
    plain, embedding = loss_with(), seen()
    rows = [2, 3, 6, 7]
    alone = plain(Embedding(*(column[rows] for column in embedding)), IDENTITIES[rows], INFRARED[rows])
    whole = plain(embedding, IDENTITIES, INFRARED)
    more = loss_with(dataset=2)
    assert more.asks == ("cameras",)
    terms = more(embedding, IDENTITIES, INFRARED, cameras=CAMERA)
    torch.testing.assert_close(terms["other"], alone["total"])
    torch.testing.assert_close(terms["total"], whole["total"] + 0.5 * alone["total"])
    some = loss_with(dataset=2, terms=["identity", "mutual"])(embedding, IDENTITIES, INFRARED, cameras=CAMERA)
    torch.testing.assert_close(some["other"], alone["identity"] + 2.5 * alone["mutual"])
    some["other"].backward()
    assert (embedding.embedding.grad.abs().sum(1) > 0).tolist() == [False, False, True, True] * 2


def test_a_batch_without_its_images_adds_nothing_and_one_dataset_is_refused() -> None:
    terms = loss_with(dataset=3)(seen(), IDENTITIES, INFRARED, cameras=CAMERA)
    assert terms["other"] == 0
    with pytest.raises(UserError, match="OfDataset is for dataset=joint"):
        loss_with(dataset=1)(seen(), IDENTITIES, INFRARED, cameras=CAMERA % CAMERAS)
    with pytest.raises(UserError, match="has no triplet; it has identity, identity_visible"):
        loss_with(dataset=2, terms=["triplet"])(seen(), IDENTITIES, INFRARED, cameras=CAMERA)
