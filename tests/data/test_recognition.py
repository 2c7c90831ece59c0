"""A folder one level off, or another dataset's, is recognised where it is refused."""

from pathlib import Path

import pytest

from mpanet_pl.data import SYSU, RegDB
from mpanet_pl.data.faults import BrokenDataset
from mpanet_pl.data.recognition import hints, looks_like


def refusal(dataset: SYSU | RegDB) -> str:
    with pytest.raises(BrokenDataset) as refused:
        dataset.read()
    return str(refused.value)


def test_the_tests_own_trees_are_recognised(sysu: Path, regdb: Path, llcm: Path, folder: Path) -> None:
    found = [looks_like(root) for root in (sysu, regdb, llcm, folder)]
    assert found == ["sysu", "regdb", "llcm", "folder"]
    assert looks_like(sysu.parent) is None


def test_a_level_up_a_level_down_and_beside_are_told(sysu: Path, tmp_path: Path) -> None:
    inside = tmp_path / "SYSU-MM01"
    inside.symlink_to(sysu, target_is_directory=True)
    meant = f"{inside} looks like it: data_dir={inside}."
    assert meant in refusal(SYSU(tmp_path))
    assert meant in refusal(SYSU(tmp_path / "SYSU"))
    assert f"{sysu} looks like it: data_dir={sysu}." in refusal(SYSU(sysu / "cam1"))
    assert list(hints(tmp_path, "buptcampus")) == [], "nothing of the kind is near"


def test_another_datasets_folder_is_named(sysu: Path, regdb: Path) -> None:
    assert f"{regdb} looks like another dataset: dataset=regdb." in refusal(SYSU(regdb))
    assert f"{sysu} looks like another dataset: dataset=sysu." in refusal(RegDB(sysu, trial=1))


def test_a_broken_tree_of_its_own_is_told_nothing_more(sysu: Path) -> None:
    assert list(hints(sysu, "sysu")) == []
