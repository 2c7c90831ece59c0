"""Who meets whom."""

import pytest
import torch
from evaluation import made

from mpanet_pl.data.catalogue import Catalogue
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import FolderProtocol, LLCMProtocol, RegDBProtocol, SYSUProtocol


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
        with pytest.raises(UserError, match="at least one trial, got 0"):
            protocol(trials=0)
    with pytest.raises(UserError, match=r'"deduplicated" or "plain", got "fancy"'):
        RegDBProtocol(cmc="fancy")


def test_published_rows_belong_to_settings() -> None:
    _, catalogue = made.sysu(dim=1)
    (search,) = SYSUProtocol().searches(catalogue)
    assert SYSUProtocol.published.keys() == search.galleries.keys()
