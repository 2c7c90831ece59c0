from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mpanet_pl.data import Catalogue, Folder, RegDB
from mpanet_pl.errors import UserError

ROWS = [("a.jpg", 7, 1, False), ("b.jpg", 7, 3, True), ("c.jpg", 2, 6, True)]


def test_rows_become_columns() -> None:
    catalogue = Catalogue.from_rows(ROWS)
    assert catalogue.paths == ("a.jpg", "b.jpg", "c.jpg")
    assert catalogue.identities.tolist() == [7, 7, 2]
    assert catalogue.cameras.tolist() == [1, 3, 6]
    assert catalogue.infrared.tolist() == [False, True, True]
    assert (len(catalogue), catalogue.num_identities) == (3, 2)


@pytest.mark.parametrize("rows", [torch.tensor([False, True, True]), torch.tensor([1, 2])], ids=["mask", "numbers"])
def test_a_part_keeps_every_column(rows: torch.Tensor) -> None:
    part = Catalogue.from_rows(ROWS)[rows]
    assert part.paths == ("b.jpg", "c.jpg")
    assert part.identities.tolist() == [7, 2]


def test_an_empty_catalogue_has_its_dtypes() -> None:
    empty = Catalogue.from_rows([])
    assert (len(empty), empty.num_identities) == (0, 0)
    assert empty.infrared.dtype == torch.bool


def test_a_column_of_another_length_or_dtype_is_refused() -> None:
    two, three = torch.zeros(2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="identities of a catalogue of 2 images"):
        Catalogue(("a", "b"), three, two, two.bool())
    with pytest.raises(ValueError, match="infrared of a catalogue of 2 images must be"):
        Catalogue(("a", "b"), two, two, two)


def test_a_mask_of_another_length_is_refused() -> None:
    two = Catalogue.from_rows([("a", 1, 1, False), ("b", 2, 1, True)])
    assert two[torch.tensor([False, True])].paths == ("b",)
    with pytest.raises(UserError, match=r"A mask of this catalogue has 2 entries, got \(1,\)"):
        two[torch.tensor([True])]


def test_what_a_dataset_knows_beyond_its_images_follows_the_rows() -> None:
    rows = [("a/1.jpg", 0, 1, False), ("a/2.jpg", 0, 2, True), ("b/1.jpg", 1, 1, False)]
    catalogue = Catalogue.from_rows(rows, tracks=[5, 5, 6], queries=[True, False, True])
    chosen = replace(catalogue, sources=("x/a", "x/a", "x/b"))[torch.tensor([2, 0])]
    assert chosen.tracks.tolist() == [6, 5]
    assert chosen.queries.tolist() == [True, True]
    assert chosen.sources == ("x/b", "x/a")
    with pytest.raises(ValueError, match="sources of a catalogue of 2 images"):
        replace(chosen, sources=("x/b",))
    with pytest.raises(ValueError, match="tracks of a catalogue"):
        Catalogue.from_rows(rows, tracks=[1, 2])


@pytest.mark.parametrize("trial", [1, 2])
def test_people_are_known_by_their_dataset_and_their_own_number(regdb: Path, trial: int) -> None:
    """Labels of RegDB's trials start at 0 each; the folders' numbers are the same people in every trial."""
    splits = RegDB(regdb, trial=trial).read()
    train, test = ({*catalogue.sources} for catalogue in (splits.train, splits.test))
    assert train | test == {f"regdb/{number}" for number in range(1, 9)}
    assert not train & test
    assert splits.test.sources[0] == f"regdb/{splits.test.paths[0].split('/')[1]}"


def test_two_folders_may_each_have_an_anna(folder: Path) -> None:
    assert Folder(folder).read().test.sources is None
