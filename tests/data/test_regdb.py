from pathlib import Path

import pytest
from trees import draw_image, draw_regdb, write

from mpanet_pl.data import RegDB
from mpanet_pl.data.faults import BrokenDataset
from mpanet_pl.errors import UserError


def faults_of(root: Path, trial: int = 1) -> str:
    with pytest.raises(BrokenDataset) as caught:
        RegDB(root, trial=trial).read()
    return str(caught.value)


def people(paths: tuple[str, ...]) -> set[str]:
    return {path.split("/")[1] for path in paths}


def test_a_trial_halves_the_people(regdb: Path) -> None:
    first, second = RegDB(regdb).read(), RegDB(regdb, trial=2).read()
    for splits in (first, second):
        assert splits.train.num_identities == splits.test.num_identities == 4
        assert not people(splits.train.paths) & people(splits.test.paths)
        assert len(people(splits.train.paths + splits.test.paths)) == 8
    assert people(first.train.paths) != people(second.train.paths)


def test_visible_is_camera_one_and_thermal_two(regdb: Path) -> None:
    for catalogue in (RegDB(regdb).read().train, RegDB(regdb).read().test):
        assert catalogue.cameras.tolist() == [2 if path.startswith("Thermal") else 1 for path in catalogue.paths]
        assert catalogue.infrared.tolist() == [path.startswith("Thermal") for path in catalogue.paths]


def test_both_modalities_of_a_person_share_a_label(regdb: Path) -> None:
    train = RegDB(regdb).read().train
    for label in range(4):
        mine = train[train.identities == label]
        assert len(people(mine.paths)) == 1
        assert mine.infrared.unique().tolist() == [False, True]


def test_labels_with_gaps_are_renumbered_for_training_alone(tmp_path: Path) -> None:
    draw_regdb(tmp_path)
    for file in (tmp_path / "idx").iterdir():
        lines = [line.rsplit(" ", 1) for line in file.read_text().splitlines()]
        write(file, "".join(f"{path} {10 * int(label) + 3}\n" for path, label in lines))
    splits = RegDB(tmp_path).read()
    assert splits.train.identities.unique().tolist() == [0, 1, 2, 3]
    assert splits.test.identities.unique().tolist() == [3, 13, 23, 33]


@pytest.mark.parametrize("trial", [0, 11, -1])
def test_trials_are_one_to_ten(tmp_path: Path, trial: int) -> None:
    with pytest.raises(UserError, match=f"RegDB has trials 1 to 10, got {trial}"):
        RegDB(tmp_path, trial=trial)


def test_a_trial_without_its_files(regdb: Path) -> None:
    message = faults_of(regdb, trial=7)
    assert "missing split files (4): idx/train_visible_7.txt, idx/train_thermal_7.txt" in message
    assert message.endswith("trial=7")


def test_split_files_as_editors_leave_them(tmp_path: Path) -> None:
    expected = RegDB(draw_regdb(tmp_path)).read()
    draw_image(tmp_path / "Visible/1/with a space.bmp", 1, infrared=False)
    file = next(file for file in (tmp_path / "idx").glob("*_visible_1.txt") if "Visible/1/" in file.read_text())
    lines = file.read_text().splitlines()
    label = next(line.split()[-1] for line in lines if "Visible/1/" in line)
    messy = ["\ufeff" + lines[0], "", *(f"  {line}\t " for line in lines), f"Visible/1/with a space.bmp   {label}", ""]
    file.write_bytes("\r\n".join(messy).replace("/", "\\").encode())
    found = RegDB(tmp_path).read()
    extra = set(found.train.paths + found.test.paths) - set(expected.train.paths + expected.test.paths)
    assert extra == {"Visible/1/with a space.bmp"}
    assert len(found.train) + len(found.test) == len(expected.train) + len(expected.test) + 1


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    draw_regdb(tmp_path)
    visible = tmp_path / "idx/train_visible_1.txt"
    known = visible.read_text().splitlines()[0].rsplit(" ", 1)[0]
    tested = (tmp_path / "idx/test_visible_1.txt").read_text().splitlines()[0]
    write(
        visible,
        visible.read_text()
        + f"Visible/1/gone.bmp 0\nVisible/1/unlabelled.bmp\n{known} 17\n/etc/passwd 1\n../other/a.bmp 2\n{tested}\n",
    )
    (tmp_path / "idx/test_thermal_1.txt").unlink()
    message = faults_of(tmp_path)
    assert "paths of a split file that do not exist (1): Visible/1/gone.bmp (idx/train_visible_1.txt)" in message
    assert "lines that are not a path and a label (1): idx/train_visible_1.txt:10 'Visible/1/unlabelled.bmp'" in message
    assert f"images with two labels (1): idx/train_visible_1.txt:11 '{known} 17'" in message
    assert "paths that lead out of the dataset (2)" in message
    assert f"images in both train and test (1): {tested.split()[0]}" in message
    assert f"identities in both train and test (1): {tested.split('/')[1]}" in message
    assert "missing split files (1): idx/test_thermal_1.txt" in message


def test_one_image_in_both_modalities(tmp_path: Path) -> None:
    draw_regdb(tmp_path)
    (tmp_path / "idx/train_thermal_1.txt").write_text((tmp_path / "idx/train_visible_1.txt").read_text())
    with pytest.raises(BrokenDataset, match=r"images listed as visible and as infrared \(8\): Visible/"):
        RegDB(tmp_path).read()


def test_a_label_that_is_no_number(tmp_path: Path) -> None:
    draw_regdb(tmp_path)
    write(
        tmp_path / "idx/train_thermal_1.txt",
        "Thermal/1/t_0.bmp one\nThermal/1/t_1.bmp -1\nThermal/2/t_1.bmp 9999999999999999999\n",
    )
    assert "lines that are not a path and a label (3)" in faults_of(tmp_path)
