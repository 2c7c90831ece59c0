from pathlib import Path

import pytest
from trees import draw_llcm, write

from mpanet_pl.data import LLCM
from mpanet_pl.data.faults import BrokenDataset


def faults_of(root: Path) -> str:
    with pytest.raises(BrokenDataset) as caught:
        LLCM(root).read()
    return str(caught.value)


def test_labels_train_and_numbers_test(llcm: Path) -> None:
    splits = LLCM(llcm).read()
    assert splits.train.identities.unique().tolist() == [0, 1, 2]
    assert splits.test.identities.unique().tolist() == [3, 4, 7]
    assert len(splits.train) == len(splits.test) == 3 * 17


def test_cameras_come_from_the_test_folders_and_the_training_names(llcm: Path) -> None:
    for catalogue in (LLCM(llcm).read().train, LLCM(llcm).read().test):
        assert catalogue.cameras[~catalogue.infrared].unique().tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert catalogue.cameras[catalogue.infrared].unique().tolist() == [1, 2, 4, 5, 6, 7, 8, 9]


def test_modalities(llcm: Path) -> None:
    for catalogue in (LLCM(llcm).read().train, LLCM(llcm).read().test):
        assert catalogue.infrared.tolist() == ["nir" in path.split("/")[0] for path in catalogue.paths]


def test_near_infrared_camera_three_is_not_missed_and_the_visible_one_is(tmp_path: Path) -> None:
    draw_llcm(tmp_path)
    assert not (tmp_path / "test_nir/cam3").exists()
    LLCM(tmp_path).read()
    (tmp_path / "test_vis/cam3").rename(tmp_path / "cam3")
    assert "missing folders (1): test_vis/cam3" in faults_of(tmp_path)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    draw_llcm(tmp_path)
    write(tmp_path / "idx/test_id.txt", "3,4,7,2,88,x")
    (tmp_path / "idx/train_nir.txt").unlink()
    next((tmp_path / "vis/0001").iterdir()).unlink()
    message = faults_of(tmp_path)
    assert "entries that are not an identity's number (1): idx/test_id.txt: 'x'" in message
    assert "identities in both train and test (1): 2" in message
    assert "identities of a split file without any image (2): 2, 88" in message
    assert "missing split files (1): idx/train_nir.txt" in message
    assert "paths of a split file that do not exist (1): vis/0001/" in message
    assert f"python -m mpanet_pl.prepare dataset=llcm data_dir={tmp_path}" in message
