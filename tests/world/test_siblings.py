import pytest
import torch
from torch.nn.functional import cosine_similarity

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.world.annotations import Annotations
from mpanet_pl.world.siblings import sibling_accuracy

IDENTITIES = torch.tensor([1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 6, 6])
INFRARED = torch.tensor([0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1]).bool()
GROUP = torch.tensor([-1, 0, 0, 0, 1, 1, -1])  # of identity 0 … 6: {1, 2, 3} differ in shoes, {4, 5} in glasses
NUANCE = torch.tensor([-1, 1, 1, 1, 0, 0, -1])


@pytest.fixture
def drawn():
    catalogue = Catalogue(tuple(map(str, range(14))), IDENTITIES, INFRARED.long(), INFRARED)
    boxes = torch.zeros(14, 3, 4)
    return catalogue, Annotations(
        ("glasses", "shoes", "bag"), boxes, GROUP[IDENTITIES], NUANCE[IDENTITIES], boxes[:, 0]
    )


def by_loop(embeddings, nuance):
    accuracies = []
    for query in range(14):
        if NUANCE[IDENTITIES[query]] != nuance:
            continue
        others = [g for g in range(14) if INFRARED[g] != INFRARED[query]]
        siblings = [g for g in others if GROUP[IDENTITIES[g]] == GROUP[IDENTITIES[query]]]
        right = [g for g in siblings if IDENTITIES[g] == IDENTITIES[query]]
        wrong = [g for g in siblings if IDENTITIES[g] != IDENTITIES[query]]
        similarity = cosine_similarity(embeddings[query][None], embeddings, dim=1)
        wins = [float(similarity[r] > similarity[w]) for r in right for w in wrong]
        accuracies.append(sum(wins) / len(wins))
    return 100 * sum(accuracies) / len(accuracies)


@pytest.mark.parametrize("seed", range(5))
def test_accuracy_follows_its_definition(drawn, seed):
    embeddings = torch.randn(14, 8, generator=torch.Generator().manual_seed(seed))
    accuracy = sibling_accuracy(embeddings, *drawn)
    assert set(accuracy) == {"siblings/glasses", "siblings/shoes", "siblings/mean"}
    assert accuracy["siblings/glasses"] == pytest.approx(by_loop(embeddings, 0))
    assert accuracy["siblings/shoes"] == pytest.approx(by_loop(embeddings, 1))
    assert accuracy["siblings/mean"] == pytest.approx(sum(by_loop(embeddings, k) for k in (0, 1)) / 2)


def test_embeddings_of_the_identity_are_perfect_and_equal_ones_are_chance(drawn):
    assert sibling_accuracy(torch.eye(7)[IDENTITIES], *drawn)["siblings/mean"] == 100
    assert sibling_accuracy(torch.ones(14, 3), *drawn)["siblings/mean"] == 50


def test_an_identity_seen_in_one_modality_alone_is_left_out(drawn):
    catalogue, annotations = drawn
    rows = ((IDENTITIES != 4) | INFRARED).nonzero().flatten()  # 4 loses its visible image: 5's can still be queries
    accuracy = sibling_accuracy(torch.eye(7)[IDENTITIES[rows]], catalogue[rows], annotations[rows])
    assert accuracy["siblings/glasses"] == 100


def test_without_siblings_there_is_nothing_to_say(drawn):
    catalogue, annotations = drawn
    none = torch.full((14,), -1)
    alone = Annotations(annotations.nuances, annotations.boxes, none, none, annotations.differences)
    assert sibling_accuracy(torch.randn(14, 8), catalogue, alone) == {}
