import pytest
import torch

from mpanet_pl.data import Catalogue
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
