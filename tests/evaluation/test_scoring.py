"""Whole evaluations, against the definition and against laws."""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import pytest
import torch
from evaluation import made
from evaluation.definition import Leaves, evaluate_trial
from torch import Tensor

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import (
    FolderProtocol,
    LLCMProtocol,
    RegDBProtocol,
    RetrievalProtocol,
    Scores,
    Search,
    SYSUProtocol,
    check_matches,
    evaluate,
    retrieval,
)
from mpanet_pl.evaluation.outcomes import NAMES
from mpanet_pl.evaluation.retrieval import first_alike

SEEDS = [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 8))]


def of_modality(catalogue: Catalogue, infrared: bool) -> list[int]:
    rows = (row for row in range(len(catalogue)) if bool(catalogue.infrared[row]) == infrared)
    return sorted(rows, key=catalogue.paths.__getitem__)


def files_of(catalogue: Catalogue, identity: int, camera: int, infrared: bool) -> list[int]:
    return [
        row
        for row in of_modality(catalogue, infrared)
        if (int(catalogue.identities[row]), int(catalogue.cameras[row])) == (identity, camera)
    ]


def check(
    scores: Scores,
    similarity: Tensor,
    catalogue: Catalogue,
    queries: list[int],
    galleries: Sequence[list[int]],
    leaves: Leaves = lambda query, image: False,
    cmc: str = "deduplicated",
) -> None:
    for trial, gallery in enumerate(galleries):
        expected = evaluate_trial(similarity, catalogue, queries, gallery, leaves, cmc)
        got = {name: values[trial] for name, values in scores.trials.items()}
        assert got == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", SEEDS)
def test_sysu_with_seeded_draws_equals_the_definition(seed: int, dtype: torch.dtype) -> None:
    embeddings, catalogue = made.small(seed)
    scores = evaluate(embeddings.to(dtype), catalogue, SYSUProtocol(trials=3))
    identities = sorted(catalogue.identities[~catalogue.infrared].unique().tolist())
    shown = {
        (identity, camera): files_of(catalogue, identity, camera, infrared=False)
        for identity in identities
        for camera in (1, 2, 4, 5)
    }

    def gallery(cameras: tuple[int, ...], shots: int, trial: int) -> list[int]:
        draw, chosen = random.Random(trial), []
        for identity in identities:
            for camera in cameras:
                if files := shown[identity, camera]:
                    chosen += [draw.choice(files)] if shots == 1 else draw.sample(files, min(shots, len(files)))
        return chosen

    def at_one_place(query: int, image: int) -> bool:
        return (int(catalogue.cameras[query]), int(catalogue.cameras[image])) == (3, 2)

    for scope, cameras in (("all", (1, 2, 4, 5)), ("indoor", (1, 2))):
        for shot, shots in (("single", 1), ("multi", 10)):
            galleries = [gallery(cameras, shots, trial) for trial in range(3)]
            check(
                scores[f"{scope}/{shot}"],
                embeddings @ embeddings.T,
                catalogue,
                of_modality(catalogue, infrared=True),
                galleries,
                at_one_place,
            )


def sharing(catalogue: Catalogue) -> Callable[[int, int], bool]:
    """Whether query and image share identity and camera."""
    return lambda query, image: all(
        bool(column[query] == column[image]) for column in (catalogue.identities, catalogue.cameras)
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_llcm_equals_the_definition(seed: int) -> None:
    embeddings, catalogue = made.small(seed, cameras=(1, 2, 3), infrared=())
    catalogue = Catalogue.from_rows(
        [
            (f"{side}/{path}", identity, camera, side == "test_nir")
            for number, (path, identity, camera) in enumerate(
                zip(catalogue.paths, catalogue.identities.tolist(), catalogue.cameras.tolist(), strict=True)
            )
            for side in [("test_nir", "test_vis")[number % 2]]
        ]
    )
    scores = evaluate(embeddings.float(), catalogue, LLCMProtocol(trials=2))

    def galleries(infrared: bool) -> list[list[int]]:
        of_two_trials = []
        for trial in range(2):
            draw = random.Random(trial)
            choices = (
                files_of(catalogue, identity, camera, infrared)
                for identity in sorted(catalogue.identities.unique().tolist())
                for camera in (1, 2, 3)
            )
            of_two_trials.append([draw.choice(files) for files in choices if files])
        return of_two_trials

    for setting, infrared in (("visible_to_infrared", False), ("infrared_to_visible", True)):
        queries = of_modality(catalogue, infrared)
        similarity = embeddings @ embeddings.T
        check(scores[setting], similarity, catalogue, queries, galleries(not infrared), sharing(catalogue))


@pytest.mark.parametrize("cmc", ["deduplicated", "plain"])
@pytest.mark.parametrize("seed", SEEDS)
def test_regdb_equals_the_definition_by_euclidean_distance(seed: int, cmc: str) -> None:
    embeddings, catalogue = made.small(seed)
    embeddings = embeddings * torch.arange(1, len(embeddings) + 1)[:, None].remainder(3).add(1)  # lengths that matter
    distance = (embeddings[:, None] - embeddings).square().sum(2)
    visible, thermal = of_modality(catalogue, infrared=False), of_modality(catalogue, infrared=True)
    scores = evaluate(embeddings.float(), catalogue, RegDBProtocol(cmc=cmc))
    check(scores["visible_to_thermal"], -distance, catalogue, visible, [thermal], cmc=cmc)
    check(scores["thermal_to_visible"], -distance, catalogue, thermal, [visible], cmc=cmc)


@pytest.mark.parametrize("same_camera", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_folder_equals_the_definition(seed: int, same_camera: bool) -> None:
    embeddings, catalogue = made.small(seed)
    cameras = catalogue.cameras % 3  # some see both modalities
    catalogue = Catalogue(catalogue.paths, catalogue.identities, cameras, catalogue.infrared)
    leaves = sharing(catalogue) if same_camera else (lambda query, image: False)
    visible, infrared = of_modality(catalogue, infrared=False), of_modality(catalogue, infrared=True)
    scores = evaluate(embeddings.float(), catalogue, FolderProtocol(same_camera=same_camera))
    check(scores["visible_to_infrared"], embeddings @ embeddings.T, catalogue, visible, [infrared], leaves)
    check(scores["infrared_to_visible"], embeddings @ embeddings.T, catalogue, infrared, [visible], leaves)


@pytest.mark.parametrize(
    "protocol", [SYSUProtocol(trials=2), LLCMProtocol(trials=2), RegDBProtocol(), FolderProtocol()]
)
def test_the_catalogues_order_changes_no_bit(protocol: SYSUProtocol) -> None:
    _, catalogue = made.small(5)
    embeddings = torch.randn(len(catalogue), 33, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(len(catalogue), generator=torch.Generator().manual_seed(2))
    one, other = evaluate(embeddings, catalogue, protocol), evaluate(embeddings[order], catalogue[order], protocol)
    for setting, score in one.items():
        assert score.trials == other[setting].trials


@pytest.mark.parametrize("sizes", [(9, 9, 9, 9), (9, 4, 9, 1)])
def test_trials_may_hold_other_people_each(sizes: tuple[int, ...]) -> None:
    embeddings, catalogue = made.small(0)
    queries, images = of_modality(catalogue, True), of_modality(catalogue, False)
    galleries = [random.Random(trial).sample(images, size) for trial, size in enumerate(sizes)]
    galleries += [galleries[0][::-1]]  # and the same people again

    class Own(RetrievalProtocol):
        draw = "by hand"

        def searches(self, catalogue: Catalogue) -> list[Search]:
            return [Search(torch.tensor(queries), {"own": [torch.tensor(gallery) for gallery in galleries]})]

    unit = torch.nn.functional.normalize(embeddings)
    check(evaluate(embeddings, catalogue, Own())["own"], unit @ unit.T, catalogue, queries, galleries)


def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, catalogue = made.small(3)
    whole = evaluate(embeddings, catalogue, SYSUProtocol(trials=2))
    monkeypatch.setattr(retrieval, "SIMILARITIES_AT_ONCE", 1)
    for setting, score in evaluate(embeddings, catalogue, SYSUProtocol(trials=2)).items():
        assert score.trials == whole[setting].trials


def test_a_gallery_smaller_than_twenty_saturates_and_one_query_is_enough() -> None:
    catalogue = Catalogue.from_rows([("q", 1, 2, True), ("a", 2, 1, False), ("b", 1, 1, False)])
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    score = evaluate(embeddings, catalogue, RegDBProtocol())["thermal_to_visible"]
    assert score.cmc.tolist() == [0, 100]
    assert (score.r1, score.r5, score.r20, score.mAP, score.mINP) == (0, 100, 100, 50, 50)


def test_a_single_trial_has_no_spread_and_several_have_their_samples() -> None:
    embeddings, catalogue = made.small(0)
    assert set(evaluate(embeddings, catalogue, SYSUProtocol(trials=1))["all/single"].std.values()) == {None}
    score = evaluate(embeddings, catalogue, SYSUProtocol(trials=4))["all/single"]
    assert score.std["mAP"] == pytest.approx(float(torch.tensor(score.trials["mAP"]).double().std()))
    assert score.means == {name: pytest.approx(sum(values) / 4) for name, values in score.trials.items()}
    assert score.means == {name: getattr(score, name) for name in NAMES}


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_embeddings_that_are_no_numbers_are_named(broken: float) -> None:
    embeddings, catalogue = made.small(0)
    embeddings[3, 2] = broken
    embeddings[7] = broken
    with pytest.raises(UserError, match="not finite") as error:
        evaluate(embeddings, catalogue, SYSUProtocol())
    assert f"2 of {len(catalogue)} embeddings" in str(error.value)
    for row in (3, 7):
        assert f"row {row} ({catalogue.paths[row]})" in str(error.value)


def test_embeddings_of_another_catalogue_are_refused() -> None:
    embeddings, catalogue = made.small(0)
    with pytest.raises(UserError, match="one row each"):
        evaluate(embeddings[1:], catalogue, SYSUProtocol())


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8, torch.bool])
def test_what_is_no_real_number_is_refused(dtype: torch.dtype) -> None:
    embeddings, catalogue = made.small(0)
    with pytest.raises(UserError, match=f"floating-point numbers, got {dtype}"):
        evaluate(embeddings.to(dtype), catalogue, SYSUProtocol())


def test_embeddings_of_no_width_are_refused() -> None:
    embeddings, catalogue = made.small(0)
    with pytest.raises(UserError, match="0 wide"):
        evaluate(embeddings[:, :0], catalogue, SYSUProtocol())


@pytest.mark.parametrize("protocol", [SYSUProtocol(trials=2), LLCMProtocol(trials=2), FolderProtocol(same_camera=True)])
@pytest.mark.parametrize("seed", range(6))
def test_the_check_in_advance_says_what_scoring_will(protocol: RetrievalProtocol, seed: int) -> None:
    """On catalogues of few images, of which some cannot be scored."""
    embeddings, catalogue = made.small(seed)
    few = torch.randperm(len(catalogue), generator=torch.Generator().manual_seed(seed))[: 2 + 3 * seed]
    told = []
    for attempt in (
        lambda: check_matches(catalogue[few], protocol),
        lambda: evaluate(embeddings[few], catalogue[few], protocol),
    ):
        try:
            attempt()
            told.append("")
        except UserError as error:
            told.append(str(error))
    assert told[0] == told[1]


def test_what_cannot_be_scored_says_why() -> None:
    one_sided = Catalogue.from_rows([("a", 1, 1, False), ("b", 2, 1, False)])
    with pytest.raises(UserError, match=r"infrared_to_visible.*no query images"):
        evaluate(torch.eye(2), one_sided, FolderProtocol())
    strangers = Catalogue.from_rows([("a", 1, 1, False), ("b", 2, 2, True)])
    with pytest.raises(UserError, match=r"visible_to_thermal: no query has a true match"):
        evaluate(torch.eye(2), strangers, RegDBProtocol())


def test_reduced_precision_outside_does_not_reach_distances() -> None:
    _, catalogue = made.small(1)
    embeddings = torch.randn(len(catalogue), 64, generator=torch.Generator().manual_seed(0))
    plain = evaluate(embeddings, catalogue, RegDBProtocol())
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = evaluate(embeddings, catalogue, RegDBProtocol())
    assert {name: score.trials for name, score in plain.items()} == {
        name: score.trials for name, score in under_autocast.items()
    }


def test_a_result_says_how_it_was_measured() -> None:
    embeddings, catalogue = made.small(1)
    assert evaluate(embeddings, catalogue, SYSUProtocol(trials=2))["all/single"].measured == (
        "cosine similarity; deduplicated CMC; 2 galleries drawn by random.seed(trial), not the official permutations; "
        "no re-ranking; SYSUProtocol version 1"
    )
    assert evaluate(embeddings, catalogue, RegDBProtocol(cmc="plain"))["visible_to_thermal"].measured == (
        "Euclidean distance of un-normalised embeddings; plain CMC; all images of the other modality are the gallery; "
        "no re-ranking; RegDBProtocol version 1"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("protocol", [FolderProtocol(), RegDBProtocol()], ids=["cosine", "euclidean"])
@pytest.mark.parametrize("queries", [1, 2, 3, 206])
def test_equal_embeddings_are_ties_wherever_they_stand(
    queries: int, protocol: FolderProtocol | RegDBProtocol, dtype: torch.dtype
) -> None:
    """A matrix product rounds equal columns differently at the edges of its blocks."""
    rows = [(f"v/{number}", number % 37, 1, False) for number in range(111)]
    rows += [(f"t/{number}", number % 37, 2, True) for number in range(queries)]
    alike = torch.randn(300, generator=torch.Generator().manual_seed(queries)).to(dtype).expand(len(rows), -1)
    scores = evaluate(alike, Catalogue.from_rows(rows), protocol)
    of_thermal = scores["infrared_to_visible" if protocol.normalise else "thermal_to_visible"]
    assert of_thermal.r1 == 0
    assert of_thermal.mINP == pytest.approx(100 * 3 / 111)


def test_a_copy_under_another_name_comes_first() -> None:
    generator = torch.Generator().manual_seed(3)
    for gallery in range(20, 60):
        embeddings = torch.randn(gallery + 1, 96, generator=generator)
        embeddings[gallery - 1] = embeddings[3]
        rows = [(f"v/{number}", number, 1, False) for number in range(gallery)]
        embeddings[-1] = embeddings[3] + 0.01
        catalogue = Catalogue.from_rows([*rows, ("t/3", 3, 2, True)])
        assert evaluate(embeddings, catalogue, FolderProtocol())["infrared_to_visible"].r1 == 0


def test_distances_keep_their_digits_far_from_the_origin() -> None:
    embeddings, catalogue = made.small(4)
    embeddings = embeddings + torch.randn(embeddings.shape, generator=torch.Generator().manual_seed(1)) / 8
    near = evaluate(embeddings, catalogue, RegDBProtocol())
    far = evaluate((embeddings + 1000).float(), catalogue, RegDBProtocol())
    for setting, score in near.items():
        for name, values in score.trials.items():
            assert far[setting].trials[name] == pytest.approx(values)


def test_two_images_of_unknown_cameras_may_meet() -> None:
    """Numbered visible cameras, and an infrared one without a number."""
    rows = [(f"v/{person}_{camera}", person, camera, False) for person in range(4) for camera in (1, 2, 3)]
    rows += [(f"t/{person}", person, 0, True) for person in range(4)]
    catalogue = Catalogue.from_rows(rows)
    generator = torch.Generator().manual_seed(5)
    embeddings = torch.randn(len(rows), 32, generator=generator)
    embeddings[12:] = embeddings[1:12:3]  # each infrared image is like camera 2's of its person
    kept = evaluate(embeddings, catalogue, FolderProtocol(same_camera=True))
    assert kept["infrared_to_visible"].r1 == 100
    assert (
        kept["infrared_to_visible"].trials
        == evaluate(embeddings, catalogue, FolderProtocol())["infrared_to_visible"].trials
    )


def test_queries_without_a_match_are_counted() -> None:
    rows = [("v/1", 1, 1, False), ("v/2", 2, 1, False), ("t/1", 1, 2, True), ("t/3", 3, 2, True)]
    scores = evaluate(torch.eye(4), Catalogue.from_rows(rows), FolderProtocol())
    assert all(score.measured.endswith("; 1 of 2 queries have a true match") for score in scores.values())


@pytest.mark.parametrize("mode", [pytest.param(torch.no_grad, marks=pytest.mark.slow), torch.inference_mode])
def test_threads_score_as_one_does(mode: Callable[[], AbstractContextManager[None]]) -> None:
    embeddings, catalogue = made.sysu(dim=16)
    embeddings[5] = embeddings[40] = embeddings[6]  # equal ones go another way
    alone = evaluate(embeddings.float(), catalogue, SYSUProtocol(trials=2))
    torch.set_num_threads(3)
    try:
        with mode():
            together = evaluate(embeddings.float(), catalogue, SYSUProtocol(trials=2))
    finally:
        torch.set_num_threads(1)
    for setting, scores in alone.items():
        for one, other in zip(scores.outcomes or (), together[setting].outcomes or (), strict=True):
            assert torch.equal(one, other)


def test_embeddings_that_begin_alike_differ_where_they_differ() -> None:
    embeddings = torch.zeros(6, 100)
    embeddings[:, 90] = torch.tensor([1.0, 2.0, 1.0, 3.0, -0.0, 0.0])
    found = first_alike(embeddings, torch.tensor([5, 4, 3, 2, 1, 0]))
    assert found is not None
    assert found.tolist() == [0, 0, 2, 3, 4, 3]
    assert first_alike(embeddings, torch.tensor([1, 2, 3, 4])) is None


def test_equal_fingerprints_make_no_equal_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_fingerprints", lambda embeddings: torch.zeros(len(embeddings), dtype=torch.int64))
    found = first_alike(torch.tensor([[1.0], [2.0], [1.0], [3.0]]), torch.arange(4))
    assert found is not None
    assert found.tolist() == [0, 1, 0, 3]
