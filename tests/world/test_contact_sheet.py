"""The command, and the trees of every layout as the package's own readers see them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from mpanet_pl.cli.configuration import config_folder
from mpanet_pl.data import LLCM, SYSU, Catalogue, Folder, RegDB
from mpanet_pl.data.layout import Counts, DatasetOnDisk
from mpanet_pl.errors import UserError
from mpanet_pl.synthesize import synthesize
from mpanet_pl.world import Look, World, draw_world
from mpanet_pl.world.annotations import Annotations

TINY = World(identities=8, images_per_camera=2, siblings=1.0, look=Look(height=32, width=16))


def run(*overrides: str) -> None:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        synthesize(compose("synthesize", [*overrides, "height=32", "width=16", "workers=1"]))


def test_the_command_draws_a_dataset_and_a_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "world"
    run(f"out={out}", "layout=sysu", "identities=8", "images_per_camera=2", "siblings=0.5")
    splits = SYSU(out).read()
    assert (splits.train.num_identities, splits.test.num_identities) == (5, 3)
    assert capsys.readouterr().out == f"{out} holds 96 images; have a look at {out / 'contact_sheet.png'}\n"
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > sheet.height / 2


@pytest.mark.parametrize(
    ("layout", "reader", "train", "test"),
    [
        ("sysu", SYSU, Counts(5, 40, 20), Counts(3, 24, 12)),
        ("regdb", RegDB, Counts(4, 8, 8), Counts(4, 8, 8)),
        ("llcm", LLCM, Counts(5, 90, 80), Counts(3, 54, 48)),
        ("folder", Folder, Counts(5, 40, 20), Counts(3, 24, 12)),
    ],
)
def test_every_layout_is_read_back_whole(
    tmp_path: Path, layout: str, reader: type[DatasetOnDisk], train: Counts, test: Counts
) -> None:
    world = replace(TINY, layout=layout)
    draw_world(tmp_path, world, workers=1)
    splits = reader(tmp_path).read()
    assert (Counts.of(splits.train), Counts.of(splits.test)) == (train, test)
    paths = sorted([*splits.train.paths, *splits.test.paths])
    assert paths == sorted(shot.path for shot in world.lay_out().shots)
    with Image.open(tmp_path / paths[0]) as image:
        assert image.size == (16, 32)


def test_cameras_survive_the_way_through_llcms_file_names(tmp_path: Path) -> None:
    world = replace(TINY, layout="llcm", images_per_camera=1)
    draw_world(tmp_path, world, workers=1)
    drawn = {shot.path: (shot.camera, shot.infrared) for shot in world.lay_out().shots}
    splits = LLCM(tmp_path).read()
    assert all(_cameras(split) == {path: drawn[path] for path in split.paths} for split in (splits.train, splits.test))


def _cameras(catalogue: Catalogue) -> dict[str, tuple[int, bool]]:
    cameras = zip(catalogue.cameras.tolist(), catalogue.infrared.tolist(), strict=True)
    return dict(zip(catalogue.paths, cameras, strict=True))


def test_regdbs_halves_differ_by_trial_and_keep_siblings_together() -> None:
    world = replace(TINY, layout="regdb", identities=40)
    layout, people = world.lay_out(), world.people()
    halves = {trial: _people_in(layout.files[f"idx/train_visible_{trial}.txt"]) for trial in range(1, 11)}
    assert len({frozenset(half) for half in halves.values()}) == 10
    for trial, half in halves.items():
        assert len(half) == 20
        assert half.isdisjoint(_people_in(layout.files[f"idx/test_thermal_{trial}.txt"]))
        families = {people[identity].siblings for identity in half}
        assert families.isdisjoint(people[identity].siblings for identity in people.keys() - half)


def _people_in(lines: bytes) -> set[int]:
    return {int(number) for number in re.findall(rb"/(\d+)/", lines)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "images", "train", "test"),
    [
        ("sysu", 45863, (395, 22258, 11909), (96, 6775, 3803)),
        ("llcm", 16946 + 13975 + 8680 + 7166, (713, 16946, 13975), (351, 8680, 7166)),
    ],
)
def test_full_scale_is_the_published_one(
    layout: str, images: int, train: tuple[int, int, int], test: tuple[int, int, int]
) -> None:
    tree = World(layout=layout, identities=None).lay_out()
    assert len(tree.shots) == len({shot.path for shot in tree.shots}) == images
    for people, counts in zip(tree.groups, (train, test), strict=False):
        theirs = [shot.infrared for shot in tree.shots if shot.identity in set(people)]
        assert (len(people), theirs.count(False), theirs.count(True)) == counts


def test_full_scale_regdb_has_ten_images_of_each_kind() -> None:
    tree = World(layout="regdb", identities=None).lay_out()
    assert len(tree.shots) == 412 * 20
    assert len(tree.files["idx/test_thermal_10.txt"].splitlines()) == 206 * 10
    assert len(tree.files) == 40


def test_a_drawn_folder_is_not_drawn_over(tmp_path: Path) -> None:
    draw_world(tmp_path, TINY, workers=1)
    with pytest.raises(UserError, match="holds images drawn with other settings"):
        draw_world(tmp_path, replace(TINY, siblings=0.0), workers=1)


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty and was not drawn by this package"):
        draw_world(tmp_path, TINY, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["scale=huge"], "scale is small or full, got huge"),
        (
            ["layout=market"],
            "vcm, buptcampus, orbench, mp_reid, got market",
        ),
        (["layout=folder", "scale=full"], "layout=folder has no real dataset behind it"),
        (["scale=full", "identities=10"], "leave out identities"),
    ],
)
def test_what_is_not_understood_is_said(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        run(f"out={tmp_path / 'world'}", *overrides)


def test_what_is_known_of_a_regdb_image_survives_its_trials_labels(tmp_path: Path) -> None:
    world = replace(TINY, layout="regdb")
    draw_world(tmp_path, world, workers=1)
    test, people = RegDB(tmp_path, trial=2).read().test, world.people()
    annotations = Annotations.read(tmp_path, test)
    assert annotations is not None
    differs = [people[int(path.split("/")[1])].differs for path in test.paths]
    assert [annotations.nuances[number] for number in annotations.differs.tolist()] == differs
