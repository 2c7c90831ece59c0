from pathlib import Path

import pytest
import torch
from trees import draw_folder, draw_image, write

from mpanet_pl.data import Folder, ReIDDataModule
from mpanet_pl.data.faults import BrokenDataset
from mpanet_pl.errors import UserError

MANY = [f"person {number}" for number in range(40)]


def faults_of(root: Path) -> str:
    with pytest.raises(BrokenDataset) as caught:
        Folder(root).read()
    return str(caught.value)


def people(paths: tuple[str, ...]) -> set[str]:
    return {path.split("/")[-2] for path in paths}


def test_a_share_of_the_people_is_held_out(tmp_path: Path) -> None:
    draw_folder(tmp_path, people=MANY, images=1)
    splits = Folder(tmp_path).read()
    assert people(splits.train.paths) | people(splits.test.paths) == set(MANY)
    assert not people(splits.train.paths) & people(splits.test.paths)
    assert 10 <= splits.test.num_identities <= 30
    fewer = Folder(tmp_path, test_share=0.2).read()
    assert people(fewer.test.paths) < people(splits.test.paths)
    assert people(Folder(tmp_path, seed=2).read().test.paths) != people(splits.test.paths)


def test_adding_people_moves_nobody(tmp_path: Path) -> None:
    draw_folder(tmp_path, people=MANY[:20], images=1)
    before = people(Folder(tmp_path).read().test.paths)
    draw_folder(tmp_path, people=MANY, images=1)
    assert people(Folder(tmp_path).read().test.paths) & set(MANY[:20]) == before


def test_cameras_are_read_from_names_or_unknown(folder: Path) -> None:
    splits = Folder(folder).read()
    for catalogue in (splits.train, splits.test):
        for path, camera, infrared in zip(catalogue.paths, catalogue.cameras, catalogue.infrared, strict=True):
            name = path.split("/")[-1]
            assert camera == (int(name[1]) if name.startswith("c") else 0)
            assert infrared == path.startswith("infrared/")


def test_people_are_numbered_by_name(folder: Path) -> None:
    splits = Folder(folder).read()
    names = sorted(people(splits.train.paths + splits.test.paths))
    numbers = {
        path.split("/")[1]: int(identity)
        for path, identity in zip(splits.test.paths, splits.test.identities, strict=True)
    }
    assert numbers == {name: names.index(name) + 1 for name in numbers}
    assert splits.train.identities.unique().tolist() == list(range(splits.train.num_identities))


def test_the_user_may_say_who_is_held_out(tmp_path: Path) -> None:
    draw_folder(tmp_path / "train", people=("anna", "bert"))
    draw_folder(tmp_path / "test", people=("cleo",))
    splits = Folder(tmp_path).read()
    assert people(splits.train.paths) == {"anna", "bert"}
    assert people(splits.test.paths) == {"cleo"}
    assert all((tmp_path / path).is_file() for path in splits.train.paths + splits.test.paths)
    draw_folder(tmp_path / "test", people=("bert",))
    assert "people in both train and test (1): bert" in faults_of(tmp_path)


def test_any_names_and_kinds_of_image(tmp_path: Path) -> None:
    draw_folder(tmp_path / "train")
    draw_folder(tmp_path / "test", people=("zoë müller",))
    for name in ("in the rain.JPEG", "über.PNG", "夜.webp", "a.bmp", "b.Tif"):
        draw_image(tmp_path / "test/visible/zoë müller" / name, 1, infrared=False)
    for stray in (".DS_Store", "._a.jpg", "notes.txt", "movie.mp4"):
        write(tmp_path / "test/visible/zoë müller" / stray, "x")
    draw_image(tmp_path / "test/visible/.trash/a.jpg", 1, infrared=False)
    test = Folder(tmp_path).read().test
    assert people(test.paths) == {"zoë müller"}
    assert len(test) == 2 * 3 + 5


def test_someone_in_one_modality_only_is_kept(tmp_path: Path) -> None:
    draw_folder(tmp_path / "train", people=("anna",))
    draw_folder(tmp_path / "test", people=("cleo",))
    draw_image(tmp_path / "train/infrared/night owl/a.png", 3, infrared=True)
    draw_image(tmp_path / "test/visible/passer-by/a.png", 4, infrared=False)
    splits = Folder(tmp_path).read()
    assert "night owl" in people(splits.train.paths)
    assert "passer-by" in people(splits.test.paths)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    draw_folder(tmp_path / "train", people=("anna",))
    assert "missing folders (2): test/visible, test/infrared" in faults_of(tmp_path)
    assert "missing folders (2): visible, infrared" in faults_of(tmp_path / "train/visible")


def test_no_image_is_passed_over_in_silence(tmp_path: Path) -> None:
    draw_folder(tmp_path, people=MANY, images=1)
    draw_image(tmp_path / "infrared/stray.jpg", 1, infrared=True)
    draw_image(tmp_path / "visible/person 3/deeper/a.jpg", 1, infrared=False)
    assert "images that lie in no person's folder (1): infrared/stray.jpg" in faults_of(tmp_path)
    assert (
        "folders inside a person's folder, which data.dataset.tracks=true takes for tracklets (1): "
        "visible/person 3/deeper" in faults_of(tmp_path)
    )


def test_a_link_that_leads_nowhere_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    draw_folder(tmp_path, people=MANY, images=1)
    (tmp_path / "visible/person 3/b.jpg").symlink_to(tmp_path / "moved away.jpg")
    splits = Folder(tmp_path).read()
    assert "visible/person 3/b.jpg" in splits.train.paths + splits.test.paths


def test_too_few_people_to_hold_some_out(tmp_path: Path) -> None:
    draw_folder(tmp_path, people=("anna",))
    assert "too few people to hold some out by data.dataset.test_share and .seed (1): anna" in faults_of(tmp_path)


@pytest.mark.parametrize("share", [0, 1, 1.5])
def test_a_share_is_between_zero_and_one(tmp_path: Path, share: float) -> None:
    with pytest.raises(UserError, match="test_share must be more than 0 and less than 1"):
        Folder(tmp_path, test_share=share)


def draw_tracklets(root: Path, frames: int = 11) -> Path:
    for number, person in enumerate(MANY[:12]):
        for modality, camera in (("visible", 1), ("infrared", 4)):
            for track in range(2):
                for frame in range(frames):
                    path = root / modality / person / f"c{camera}_{track}" / f"{frame}.png"
                    draw_image(path, number, modality == "infrared", seed=frame)
    return root


def test_a_folder_a_tracklet(tmp_path: Path) -> None:
    dataset = Folder(draw_tracklets(tmp_path), tracks=True)
    splits = dataset.read()
    for catalogue in (splits.train, splits.test):
        assert catalogue.tracks is not None
        for track in catalogue.tracks.unique():
            paths = [Path(catalogue.paths[row]) for row in (catalogue.tracks == track).nonzero().flatten()]
            assert [path.name for path in paths] == [f"{frame}.png" for frame in range(11)], "2 comes before 10"
            assert len({path.parent for path in paths}) == 1
        assert catalogue.cameras.eq(torch.where(catalogue.infrared, 4, 1)).all()
    assert {path.split("/")[1] for path in splits.test.paths}.isdisjoint(
        path.split("/")[1] for path in splits.train.paths
    )
    assert Folder(tmp_path, tracks=True).read().hold_out()[1].num_identities == round(splits.train.num_identities / 4)
    data = ReIDDataModule(
        dataset, height=8, width=4, identities_per_batch=2, images_per_identity=4, frames="auto", cache=False, workers=0
    )
    data.setup()
    assert next(iter(data.train_dataloader())).images.shape == (2 * 4 * 6, 3, 8, 4)
    assert len(data.test) == 4 * splits.test.num_identities, "a row is a tracklet"


def test_tracklets_at_fault_are_told_at_once(tmp_path: Path) -> None:
    draw_tracklets(tmp_path, frames=2)
    person = "visible/person 3"
    draw_image(tmp_path / person / "first.png", 3, infrared=False)
    (tmp_path / person / "empty").mkdir()
    for camera in (1, 2):
        draw_image(tmp_path / person / "both" / f"c{camera}_1.png", 3, infrared=False)
    with pytest.raises(BrokenDataset) as told:
        Folder(tmp_path, tracks=True).read()
    for sentence in (
        f"images that lie in no tracklet's folder (data.dataset.tracks=true) (1): {person}/first.png",
        f"tracklets without a frame (1): {person}/empty",
        f"tracklets of several cameras (1): {person}/both",
    ):
        assert sentence in str(told.value)
