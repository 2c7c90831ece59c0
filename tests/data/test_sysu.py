import csv
from importlib.resources import files
from pathlib import Path

import pytest
from trees import draw_image, draw_sysu, write

from mpanet_pl.data import SYSU
from mpanet_pl.data.faults import BrokenDataset
from mpanet_pl.data.layout import Counts


def faults_of(root: Path) -> str:
    with pytest.raises(BrokenDataset) as caught:
        SYSU(root).read()
    return str(caught.value)


def test_training_takes_train_and_val_renumbered_and_the_test_keeps_its_numbers(sysu: Path) -> None:
    splits = SYSU(sysu).read()
    assert splits.train.identities.unique().tolist() == [0, 1, 2, 3]  # 1, 2, 4 and val's 5
    assert splits.test.identities.unique().tolist() == [6, 9, 10]
    person = {
        path.split("/")[1]
        for path, label in zip(splits.train.paths, splits.train.identities, strict=True)
        if label == 3
    }
    assert person == {"0005"}


def test_cameras_three_and_six_are_infrared(sysu: Path) -> None:
    for catalogue in (SYSU(sysu).read().train, SYSU(sysu).read().test):
        assert catalogue.cameras[catalogue.infrared].unique().tolist() == [3, 6]
        assert catalogue.cameras[~catalogue.infrared].unique().tolist() == [1, 2, 4, 5]
        assert [int(path[3]) for path in catalogue.paths] == catalogue.cameras.tolist()


def test_every_path_is_a_file_and_the_order_is_fixed(sysu: Path) -> None:
    splits = SYSU(sysu).read()
    assert all((sysu / path).is_file() for path in splits.train.paths + splits.test.paths)
    assert splits.test.paths == SYSU(str(sysu)).read().test.paths
    rows = list(zip(splits.test.identities.tolist(), splits.test.cameras.tolist(), splits.test.paths, strict=True))
    assert rows == sorted(rows)


def test_not_everyone_is_under_every_camera(tmp_path: Path) -> None:
    draw_sysu(tmp_path)
    for image in (tmp_path / "cam2/0006").iterdir():
        image.unlink()
    test = SYSU(tmp_path).read().test
    assert 2 not in test.cameras[test.identities == 6]


def test_split_files_as_editors_leave_them(tmp_path: Path) -> None:
    expected = SYSU(draw_sysu(tmp_path)).read()
    (tmp_path / "exp/train_id.txt").write_bytes(b"\xef\xbb\xbf1, 2 ,\r\n4,4,\r\n\r\n")
    write(tmp_path / "exp/test_id.txt", "\n 6\n9 \n10,\n\n")
    found = SYSU(tmp_path).read()
    assert (found.train.paths, found.test.paths) == (expected.train.paths, expected.test.paths)


def test_stray_files_are_nobodys_images(tmp_path: Path) -> None:
    expected = SYSU(draw_sysu(tmp_path)).read()
    draw_image(tmp_path / "cam1/0006/._0001.jpg", 6, infrared=False)
    draw_image(tmp_path / "cam1/0077/0001.jpg", 77, infrared=False)  # of no split
    draw_image(tmp_path / "cam1/backup/0001.jpg", 6, infrared=False)
    write(tmp_path / "cam1/0006/Thumbs.db", "x")
    write(tmp_path / "cam1/notes.txt", "x")
    assert SYSU(tmp_path).read().test.paths == expected.test.paths


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    draw_sysu(tmp_path)
    (tmp_path / "cam3").rename(tmp_path / "camera3")
    (tmp_path / "exp/val_id.txt").unlink()
    write(tmp_path / "exp/train_id.txt", "1,2,six,9,99")
    message = faults_of(tmp_path)
    assert "missing folders (1): cam3" in message
    assert "missing split files (1): exp/val_id.txt" in message
    assert "entries that are not an identity's number (1): exp/train_id.txt: 'six'" in message
    assert "identities in both train and test (1): 9" in message
    assert "identities of a split file without any image (1): 99" in message
    assert f"python -m mpanet_pl.prepare dataset=sysu data_dir={tmp_path}" in message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert f"missing folders (1): {tmp_path / 'nowhere'}" in faults_of(tmp_path / "nowhere")


def test_a_split_without_a_modality(tmp_path: Path) -> None:
    draw_sysu(tmp_path)
    for camera in (3, 6):
        for identity in (6, 9, 10):
            for image in (tmp_path / f"cam{camera}/{identity:04d}").iterdir():
                image.unlink()
    assert "no infrared test image" in faults_of(tmp_path)


def test_empty_and_binary_split_files(tmp_path: Path) -> None:
    draw_sysu(tmp_path)
    write(tmp_path / "exp/val_id.txt", " \n")
    (tmp_path / "exp/test_id.txt").write_bytes("6,9".encode("utf-16"))
    message = faults_of(tmp_path)
    assert "empty split files (1): exp/val_id.txt" in message
    assert "split files that cannot be read (1): exp/test_id.txt" in message


def test_many_faults_of_a_kind_are_counted_and_twenty_are_shown(tmp_path: Path) -> None:
    draw_sysu(tmp_path)
    write(tmp_path / "exp/train_id.txt", ",".join(map(str, range(1000, 1300))))
    message = faults_of(tmp_path)
    assert "without any image (300): 1000, 1001" in message
    assert "1019 and 280 more" in message
    assert "1020" not in message


def test_the_published_counts_are_those_of_the_structure() -> None:
    with files("mpanet_pl.world").joinpath("sysu_counts.csv").open() as file:
        rows = list(csv.DictReader(file))
    for split, names in (("train", ("train", "val")), ("test", ("test",))):
        people = [row for row in rows if row["split"] in names]
        visible, infrared = (
            sum(int(person[f"cam{camera}"]) for person in people for camera in cameras)
            for cameras in ((1, 2, 4, 5), (3, 6))
        )
        assert SYSU.published[split] == [Counts(len(people), visible, infrared)]
