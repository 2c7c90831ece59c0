import os
from pathlib import Path

import pytest
from trees import draw_sysu

from mpanet_pl.data import SYSU
from mpanet_pl.data.faults import Faults
from mpanet_pl.data.listing import missing_files, read_identities
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
