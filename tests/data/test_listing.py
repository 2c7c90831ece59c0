import os
from pathlib import Path

import pytest
from trees import draw_sysu

from mpanet_pl.data import SYSU
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.listing import missing_files, read_identities, read_labelled_paths, whole_number
from mpanet_pl.errors import UserError


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    draw_sysu(tmp_path)
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match="cam1 cannot be listed: Permission denied"):
        SYSU(tmp_path).read()


def test_missing_files_are_found_by_listing_each_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or real(folder))
    (tmp_path / "a/folder.jpg").mkdir(parents=True)
    (tmp_path / "a/0.jpg").touch()
    paths = ["a/0.jpg", "a/1.jpg", "a/folder.jpg", "b/0.jpg"]
    assert missing_files(tmp_path, paths) == ["a/1.jpg", "a/folder.jpg", "b/0.jpg"]
    assert listed == [tmp_path / "a"]


def test_the_command_for_the_full_check_can_be_pasted(tmp_path: Path) -> None:
    assert SYSU(tmp_path / "my data").check_command.endswith(f"'data_dir={tmp_path}/my data'")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_split_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ids.txt")
    faults = Faults()
    assert read_identities(tmp_path, "ids.txt", faults) == set()
    assert str(faults) == "- split files that cannot be read (1): ids.txt (it is no regular file)"


def test_identities_are_numbers_and_what_else_stands_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("1,2, 0003\n4\tx 5.5,,-1")
    faults = Faults()
    assert read_identities(tmp_path, "ids.txt", faults) == {1, 2, 3, 4}
    assert [found for _, found in faults.kinds()] == [["ids.txt: 'x'", "ids.txt: '5.5'", "ids.txt: '-1'"]]


def test_each_line_of_a_split_file_is_a_path_under_the_root_and_a_label(tmp_path: Path) -> None:
    names = ("0.jpg", "1.jpg", "one more.jpg")
    (tmp_path / "a").mkdir()
    for name in names:
        (tmp_path / "a" / name).touch()
    good = ["a/0.jpg 1", r"a\1.jpg 02", "", "  a/one more.jpg   3 "]
    bad = ["7", "a/0.jpg x", "../a/0.jpg 1", "a/0.jpg 5", "a/gone.jpg 4"]
    (tmp_path / "idx.txt").write_text("\n".join([*good, *bad]))
    faults = Faults()
    labels = read_labelled_paths(tmp_path, "idx.txt", faults)
    assert labels == {f"a/{name}": label for label, name in enumerate(names, start=1)}
    told = [found for _, found in faults.kinds()]
    places = [f"idx.txt:{number} '{line}'" for number, line in enumerate(bad, start=5)]
    assert told == [places[:2], [places[2]], [places[3]], ["a/gone.jpg (idx.txt)"]]


def test_a_number_that_a_float_rounds_is_none() -> None:
    assert whole_number(f"{2**53 - 1}.0") == 2**53 - 1
    assert whole_number(f"{2**53 + 1}.0") is None
