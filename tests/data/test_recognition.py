"""A folder one level off, or another dataset's, is recognised where it is refused."""

from pathlib import Path

import pytest
from commands import compose
from hydra.utils import instantiate
from trees import MARS

from mpanet_pl.data import SYSU, BUPTCampus, Joint, MPReID, ORBench, RegDB, TrackLists
from mpanet_pl.data.faults import BrokenDataset
from mpanet_pl.data.layout import DatasetOnDisk
from mpanet_pl.data.recognition import hints, looks_like
from mpanet_pl.world import World

READERS = {"vcm": TrackLists, "buptcampus": BUPTCampus, "orbench": ORBench, "mp_reid": MPReID}


def refusal(dataset: DatasetOnDisk) -> str:
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


def lists_of(layout: str, root: Path) -> Path:
    """A layout's lists alone: a folder is recognised without an image."""
    frames = {"frames": 1} if layout in ("vcm", "buptcampus") else {}
    for path, content in World(layout=layout, identities=4, images_per_camera=1, **frames).lay_out().files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


@pytest.mark.parametrize("layout", READERS)
def test_lists_of_tracklets_and_sides_are_recognised(layout: str, regdb: Path, tmp_path: Path) -> None:
    root = lists_of(layout, tmp_path / "downloads" / "release")
    assert looks_like(root) == layout
    meant = f"{root} looks like it: data_dir={root}."
    assert meant in refusal(READERS[layout](root.parent))
    inside = root / {"vcm": "Train", "buptcampus": "DATA", "orbench": "vis", "mp_reid": "13"}[layout]
    inside.mkdir()
    assert meant in refusal(READERS[layout](inside))
    assert f"{root} looks like another dataset: dataset={layout}." in refusal(RegDB(root))
    assert f"{regdb} looks like another dataset: dataset=regdb." in refusal(READERS[layout](regdb))


@pytest.mark.parametrize("name", MARS)
def test_lists_in_mars_format_are_told_apart(name: str, tmp_path: Path) -> None:
    root = MARS[name](tmp_path / "release")
    assert looks_like(root) == name
    configured = instantiate(compose("train", [f"dataset={name}", f"data_dir={tmp_path}"]).data.dataset)
    assert f"{root} looks like it: data_dir={root}." in refusal(configured)


def test_a_member_one_level_off_is_told_by_its_own_key(sysu: Path, regdb: Path) -> None:
    members = {"sysu": SYSU(sysu / "cam1"), "regdb": RegDB(regdb)}
    told = refusal(Joint(members=members, train_on=["sysu"], test_on=["regdb"]))
    assert f"sysu: {sysu} looks like it: data_dirs.sysu={sysu}." in told
