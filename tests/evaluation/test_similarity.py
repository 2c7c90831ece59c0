"""What ranks a gallery: cosines, distances and inner products against loops; tiny numbers and numbers that are none."""

import math
import operator

import pytest
import torch
from evaluation import made
from evaluation.definition import evaluate_trial

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import FolderProtocol, RegDBProtocol, RetrievalProtocol, evaluate, rows_of
from mpanet_pl.evaluation.mixed import evaluate_mixed
from mpanet_pl.evaluation.retrieval import directions_of


def dot(one: list[float], other: list[float]) -> float:
    return sum(map(operator.mul, one, other))


LOOPS = {  # of two lists of numbers
    "cosine": lambda one, other: dot(one, other) / (math.hypot(*one) * math.hypot(*other)),
    "euclidean": lambda one, other: -math.dist(one, other),
    "product": lambda one, other: dot(one, other),
}


def uneven(seed: int) -> tuple[torch.Tensor, Catalogue]:
    """Embeddings of unlike lengths, so that no two similarities rank alike."""
    _, catalogue = made.small(seed)
    draw = torch.Generator().manual_seed(seed)
    of_people = torch.randn(20, 12, generator=draw, dtype=torch.float64)[catalogue.identities]
    noise = torch.randn(of_people.shape, generator=draw, dtype=torch.float64)
    return (of_people + noise) * (3 * torch.rand(len(catalogue), 1, generator=draw) + 0.2), catalogue


@pytest.mark.parametrize("similarity", LOOPS)
@pytest.mark.parametrize("seed", range(3))
def test_each_similarity_is_its_loops(seed: int, similarity: str) -> None:
    embeddings, catalogue = uneven(seed)
    rows = embeddings.tolist()
    pairs = torch.tensor([[LOOPS[similarity](one, other) for other in rows] for one in rows])
    scores = evaluate(embeddings, catalogue, RegDBProtocol(similarity=similarity))
    visible, thermal = (rows_of(catalogue, infrared=kind).tolist() for kind in (False, True))
    for setting, queries, gallery in (
        ("visible_to_thermal", visible, thermal),
        ("thermal_to_visible", thermal, visible),
    ):
        expected = evaluate_trial(pairs, catalogue, queries, gallery, lambda query, image: False, "deduplicated")
        assert scores[setting].means == pytest.approx(expected, abs=1e-9)


def test_the_three_rank_differently_and_say_so() -> None:
    embeddings, catalogue = uneven(1)
    found = {name: evaluate(embeddings, catalogue, FolderProtocol(similarity=name)) for name in LOOPS}
    assert len({scores["infrared_to_visible"].mAP for scores in found.values()}) == 3
    assert found["product"]["infrared_to_visible"].measured.startswith("inner product of un-normalised embeddings; ")
    with pytest.raises(UserError, match="similarity must be one of cosine, euclidean, product, got 'dot'"):
        FolderProtocol(similarity="dot")


def test_normalise_is_the_earlier_word_for_two_of_them() -> None:
    assert FolderProtocol(normalise=False).similarity == "euclidean"
    assert RegDBProtocol(normalise=True).similarity == "cosine"
    assert RegDBProtocol().normalise is False

    class Old(FolderProtocol):
        normalise = False

        def __init__(self) -> None:
            self.same_camera = False

    assert Old().similarity == "euclidean"
    old = Old()
    old.normalise = True
    assert old.similarity == "cosine"


@pytest.mark.parametrize("scale", [1e-13, 1e-25, 1e-36])
def test_cosines_of_tiny_embeddings_are_cosines(scale: float) -> None:
    """Lengths below 1e-12 were once cut there, so that products ranked in place of cosines."""
    embeddings, catalogue = uneven(2)
    tiny = (embeddings * scale).float()
    plain, small = (evaluate(one, catalogue, FolderProtocol()) for one in (embeddings.float(), tiny))
    assert {setting: scores.trials for setting, scores in small.items()} == {
        setting: scores.trials for setting, scores in plain.items()
    }
    assert torch.allclose(directions_of(tiny).norm(dim=1), torch.ones(len(tiny)))
    assert (directions_of(torch.zeros(2, 3)) == 0).all()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_mixed_galleries_refuse_what_is_no_number(wrong: float) -> None:
    embeddings, catalogue = uneven(1)
    broken = embeddings.clone()
    broken[3, 2] = wrong
    for given in ({"embeddings": broken}, {"embeddings": embeddings, "descriptors": broken}):
        with pytest.raises(UserError, match=r"1 of \d+ embeddings are not finite numbers.*row 3"):
            evaluate_mixed(**given, catalogue=catalogue, protocol=FolderProtocol())


def test_a_collapsed_network_has_no_gap_between_modalities() -> None:
    """Equal embeddings tell no modality: the probe is at chance, and every stranger is as similar as the person."""
    _, catalogue = uneven(1)
    protocol: RetrievalProtocol = FolderProtocol()
    scores = evaluate_mixed(torch.ones(len(catalogue), 4), catalogue, protocol)
    assert scores.probe == 0.5
    assert set(scores.overtaken.values()) == {1.0}
