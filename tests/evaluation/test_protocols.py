"""Who meets whom."""

from pathlib import Path

import pytest
import torch
from evaluation import made
from golden import recipe

from mpanet_pl.data import LLCM, SYSU, Catalogue, Folder, RegDB
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import (
    FolderProtocol,
    LLCMProtocol,
    RegDBProtocol,
    RetrievalProtocol,
    Search,
    SYSUProtocol,
    evaluate,
    protocol_of,
    rows_of,
)


def test_sysu_has_the_published_numbers_of_queries_and_gallery_images() -> None:
    _, catalogue = made.sysu(dim=1)
    (search,) = SYSUProtocol().searches(catalogue)
    assert len(search.queries) == 3803
    sizes = {setting: {len(gallery) for gallery in galleries} for setting, galleries in search.galleries.items()}
    assert sizes == {"all/single": {301}, "all/multi": {3010}, "indoor/single": {112}, "indoor/multi": {1120}}
    assert all(len(galleries) == 10 for galleries in search.galleries.values())


def test_a_query_of_camera_3_ignores_camera_2_and_no_other() -> None:
    one_of_each = Catalogue.from_rows([(f"cam{camera}", 1, camera, camera in (3, 6)) for camera in range(1, 7)])
    ignored = SYSUProtocol().ignored(one_of_each, one_of_each)
    assert ignored.nonzero().tolist() == [[2, 1]]


def test_every_trial_draws_another_gallery() -> None:
    _, catalogue = made.sysu(dim=1)
    (search,) = SYSUProtocol().searches(catalogue)
    for galleries in search.galleries.values():
        assert len({tuple(gallery.tolist()) for gallery in galleries}) == 10


def test_llcm_takes_queries_from_one_modality_and_a_gallery_from_the_other() -> None:
    _, catalogue = made.llcm()
    for search in LLCMProtocol(trials=3).searches(catalogue):
        ((setting, galleries),) = search.galleries.items()
        assert set(catalogue.infrared[search.queries].tolist()) == {setting == "infrared_to_visible"}
        for gallery in galleries:
            assert set(catalogue.infrared[gallery].tolist()) == {setting == "visible_to_infrared"}
            places = list(zip(catalogue.identities[gallery].tolist(), catalogue.cameras[gallery].tolist(), strict=True))
            assert len(set(places)) == len(places)


def test_the_same_camera_rule_is_the_folders_choice() -> None:
    both = Catalogue.from_rows([("a", 1, 1, False), ("b", 1, 2, False), ("c", 2, 1, False)])
    query = Catalogue.from_rows([("q", 1, 1, True)])
    assert FolderProtocol().ignored(query, both) is None
    ignored = FolderProtocol(same_camera=True).ignored(query, both)
    assert ignored is not None
    assert ignored.tolist() == [[True, False, False]]


def test_regdb_searches_all_in_both_directions() -> None:
    _, catalogue = made.regdb(0, 1, identities=3, per=2)
    to_thermal, to_visible = RegDBProtocol().searches(catalogue)
    assert torch.equal(to_thermal.queries, to_visible.galleries["thermal_to_visible"][0])
    assert torch.equal(to_visible.queries, to_thermal.galleries["visible_to_thermal"][0])


def test_impossible_choices_are_refused() -> None:
    for protocol in (SYSUProtocol, LLCMProtocol):
        with pytest.raises(UserError, match="trials must be between 1 and 1000, got 0"):
            protocol(trials=0)
    with pytest.raises(UserError, match="cmc must be deduplicated or plain, got 'fancy'"):
        RegDBProtocol(cmc="fancy")


class OneGallery(RetrievalProtocol):
    """One of a user's own: what the base class does not say is all that it has to."""

    draw = "visible images are the gallery"

    def searches(self, catalogue: Catalogue) -> list[Search]:
        infrared, visible = rows_of(catalogue, infrared=True), rows_of(catalogue, infrared=False)
        return [Search(infrared, {"infrared_to_visible": [visible]})]


def test_a_protocol_of_ones_own_says_its_searches_alone() -> None:
    embeddings, catalogue = made.small(1)
    own = evaluate(embeddings, catalogue, OneGallery())["infrared_to_visible"]
    assert own.trials == evaluate(embeddings, catalogue, FolderProtocol())["infrared_to_visible"].trials
    assert "OneGallery version 1" in own.measured


class Somewhere:
    """A dataset as far as `protocol_of` looks."""

    def __init__(self, root: Path, **attributes: str) -> None:
        self.root = root
        self.__dict__.update(attributes)


def test_a_dataset_brings_its_protocol(tmp_path: Path) -> None:
    kinds = [type(protocol_of(dataset(tmp_path))) for dataset in (SYSU, RegDB, LLCM)]
    assert kinds == [SYSUProtocol, RegDBProtocol, LLCMProtocol]
    folder = protocol_of(Folder(tmp_path))
    assert isinstance(folder, FolderProtocol)
    assert folder.same_camera
    named = Somewhere(tmp_path, protocol="mpanet_pl.evaluation.LLCMProtocol")
    assert isinstance(protocol_of(named), LLCMProtocol)


def test_sysu_takes_the_permutations_that_lie_in_the_datasets_folder(tmp_path: Path) -> None:
    dataset = SYSU(tmp_path)
    assert "not the official permutations" in protocol_of(dataset).draw
    (tmp_path / "exp").mkdir()
    recipe.save_permutations(tmp_path / "exp/rand_perm_cam.mat", recipe.permutations(2))
    assert "rand_perm_cam.mat (sha256" in protocol_of(dataset).draw


def test_a_dataset_without_a_protocol_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Somewhere does not name its protocol"):
        protocol_of(Somewhere(tmp_path))
    for name in ("no.such.module.Protocol", "mpanet_pl.evaluation.NoProtocol", "Protocol"):
        with pytest.raises(UserError, match=f"names the protocol {name}, which cannot be had"):
            protocol_of(Somewhere(tmp_path, protocol=name))


def test_sysus_validation_people_are_searched_for_without_the_indoor_cameras() -> None:
    """As in the release, where they are under cameras 3, 4 and 5 alone."""
    rows = [(f"cam{camera}/{who:04d}/0001.jpg", who, camera, camera == 3) for camera in (3, 4, 5) for who in (1, 2)]
    (search,) = SYSUProtocol().searches(Catalogue.from_rows(rows))
    assert set(search.galleries) == {"all/single", "all/multi"}


def test_a_protocol_says_in_short_how_its_gallery_was_chosen() -> None:
    assert SYSUProtocol().gallery == "random.seed"
    assert "random.seed" in SYSUProtocol().draw
    assert LLCMProtocol(trials=1).draw.startswith("1 gallery drawn by random.seed")
    assert "but those of the query's identity and camera" in FolderProtocol(same_camera=True).draw
    assert "but" not in FolderProtocol().draw


def test_the_papers_numbers_stand_beside_what_is_measured_alike() -> None:
    assert RegDBProtocol().published["visible_to_thermal"]["r1"] > 80
    assert not RegDBProtocol(normalise=True).published
    assert SYSUProtocol().published.keys() <= {"all/single", "all/multi", "indoor/single", "indoor/multi"}
