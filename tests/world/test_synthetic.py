"""The embedded dataset on disk: drawn once, the same whoever draws it, and drawn on after an interruption."""

import shlex
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mpanet_pl.data import Splits
from mpanet_pl.data.permutations import Permutations
from mpanet_pl.errors import UserError
from mpanet_pl.prepare import main
from mpanet_pl.world import NUANCES, Synthetic, drawing, shot, worlds
from mpanet_pl.world.annotations import Annotations
from mpanet_pl.world.body import FACINGS
from mpanet_pl.world.ground_truth import DrawnGroundTruth


def small(root: Path, *, siblings: float = 0.5, workers: int = 1) -> Synthetic:
    return Synthetic(root, identities=10, images_per_camera=2, siblings=siblings, height=64, width=32, workers=workers)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    dataset = small(tmp_path_factory.mktemp("synthetic"))
    dataset.prepare()
    return dataset


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix != ".npz")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_it_reads_as_sysu(drawn: Synthetic) -> None:
    splits: Splits = drawn.read()
    assert (splits.train.num_identities, splits.test.num_identities) == (6, 4)
    assert (len(splits.train), len(splits.test)) == (6 * 12, 4 * 12)
    assert splits.test.cameras[splits.test.infrared].unique().tolist() == [3, 6]
    assert splits.test.identities.unique().tolist() == [7, 8, 9, 10]


def test_the_side_that_is_seen_is_kept(drawn: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    posed: list[str] = []
    monkeypatch.setattr(shot, "draw_figure", lambda canvas, person, pose: posed.append(pose.facing))
    people = drawn.world.people()
    for one in drawn.world.lay_out().shots:
        drawn.world.look.inks(one, people[one.identity])
    with np.load(drawn.root / "nuances.npz") as stored:
        assert [FACINGS[number] for number in stored["facings"]] == posed
    assert set(posed) == {"front", "back", "side"}


def test_parts_by_the_side_that_is_seen(drawn: Synthetic) -> None:
    test = drawn.read().test
    annotations = Annotations.read(drawn.root, test)
    assert annotations is not None
    assert annotations.facings is not None
    views = DrawnGroundTruth(test, annotations).labels["view"]
    assert list(views) == ["front", "back", "side"]
    assert set(Synthetic.slices) == DrawnGroundTruth(test, annotations).labels.keys(), "promised before it is drawn"
    assert torch.stack(list(views.values())).sum(0).eq(1).all(), "each image is of one view"
    turned = torch.arange(len(test)).flip(0)
    assert torch.equal(annotations[turned].facings, annotations.facings[turned])  # type: ignore[arg-type]
    assert "view" not in DrawnGroundTruth(test, replace(annotations, facings=None)).labels, (
        "drawn before they were kept"
    )


def test_whoever_is_trained_on_is_dyed_and_nobody_else_is_changed(drawn: Synthetic, tmp_path: Path) -> None:
    dyed = Synthetic(
        tmp_path, identities=10, images_per_camera=2, siblings=0.5, dyed=True, height=64, width=32, workers=1
    )
    dyed.prepare()
    plain = contents(drawn.root)
    for path, content in contents(dyed.root).items():
        if path.startswith("cam"):
            trained = int(path.split("/")[1]) <= 6
            assert (content != plain[path]) == trained
        else:
            assert (content != plain[path]) == (path == "manifest.json")
    with np.load(dyed.root / "nuances.npz") as one, np.load(drawn.root / "nuances.npz") as other:
        assert np.array_equal(one["boxes"], other["boxes"], equal_nan=True)


def test_the_last_people_are_tested_in_the_share_asked_for() -> None:
    layout = drawing.World(identities=20, images_per_camera=1, test_share=0.2).lay_out()
    assert [len(group) for group in layout.groups] == [16, 4, 0]
    with pytest.raises(UserError, match=r"test_share is the share .* got 0.01 of 20"):
        drawing.World(identities=20, test_share=0.01)


def test_nobody_can_be_dyed_where_everybody_is_tested_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="layout=regdb trains on everybody"):
        drawing.World(layout="regdb", dyed=True)


def test_every_image_has_its_annotations(drawn: Synthetic) -> None:
    test = drawn.read().test
    annotations = Annotations.read(drawn.root, test)
    assert annotations is not None
    assert annotations.nuances == tuple(NUANCES)
    assert annotations.boxes.shape == (len(test), len(NUANCES), 4)
    visible = ~annotations.boxes.isnan().any(dim=2)
    assert visible[:, list(NUANCES).index("legwear")].float().mean() > 0.9
    assert visible.float().mean() < 0.95
    siblings = {group: test.identities[annotations.siblings == group].unique().tolist() for group in (0,)}
    assert siblings == {0: [7, 8]}


def test_its_permutation_file_is_read_as_the_official_one(drawn: Synthetic) -> None:
    permutations = Permutations(drawn.root / "exp" / "rand_perm_cam.mat", trials=10)
    draws = [permutations.first([4, 9], camera=1, identity=7, trial=trial, shots=1) for trial in range(10)]
    assert {row for draw in draws for row in draw} == {4, 9}


def test_a_second_preparation_touches_nothing(drawn: Synthetic) -> None:
    def times() -> dict[Path, int]:  # some releases of filelock touch the lock
        return {path: path.stat().st_mtime_ns for path in drawn.root.rglob("*") if path.name != ".lock"}

    before = times()
    drawn.prepare()
    assert times() == before


def test_an_interrupted_drawing_goes_on_where_it_stopped(drawn: Synthetic, tmp_path: Path) -> None:
    again = small(tmp_path)
    again.prepare()
    (again.root / drawing.MANIFEST).rename(again.root / drawing.UNFINISHED)
    lost = [again.root / "cam1/0001/0001.jpg", again.root / "cam6/0010/0002.jpg", again.root / "nuances.npz"]
    for path in lost:
        path.unlink()
    kept = again.root / "cam2/0001/0001.jpg"
    drawn_at = kept.stat().st_mtime_ns
    again.prepare()
    assert contents(again.root) == contents(drawn.root)
    with np.load(again.root / "nuances.npz") as ours, np.load(drawn.root / "nuances.npz") as theirs:
        np.testing.assert_array_equal(ours["boxes"], theirs["boxes"])
    assert kept.stat().st_mtime_ns == drawn_at


def test_what_was_deleted_is_drawn_again(drawn: Synthetic, tmp_path: Path) -> None:
    dataset = small(tmp_path)
    dataset.prepare()
    for path in ("nuances.npz", "cam1/0001/0001.jpg", "exp/test_id.txt"):
        (dataset.root / path).unlink()
    dataset.prepare()
    assert contents(dataset.root) == contents(drawn.root)
    assert Annotations.read(dataset.root, dataset.read().test) is not None


def test_the_full_check_is_that_of_this_world(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = small(tmp_path)
    dataset.prepare()
    _, _, module, *arguments = shlex.split(dataset.check_command)
    assert module == "mpanet_pl.prepare"
    monkeypatch.setattr(sys, "argv", [module, *arguments, "data.identities_per_batch=2"])
    main()
    assert f"{dataset.root}/.mpanet_cache" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [dataset.root]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_drawing_leaves_no_worker_behind(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "mpanet_pl.synthesize", f"out={tmp_path}/it", "identities=400", "workers=2"]
    with subprocess.Popen([*line, "images_per_camera=40"], stderr=subprocess.DEVNULL) as drawing:
        children = Path(f"/proc/{drawing.pid}/task/{drawing.pid}/children")
        patience = time.monotonic() + 60
        while len(workers := children.read_text().split()) < 2 and time.monotonic() < patience:
            time.sleep(0.1)
        drawing.kill()
    patience = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < patience:
        time.sleep(0.1)
    assert len(workers) == 2
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_other_settings_get_another_folder(tmp_path: Path) -> None:
    assert small(tmp_path, siblings=0.5).root != small(tmp_path, siblings=0.25).root
    assert small(tmp_path).root.parent == tmp_path


def test_two_processes_draw_what_one_does(drawn: Synthetic, tmp_path: Path) -> None:
    shared = small(tmp_path, workers=2)
    shared.prepare()
    assert contents(shared.root) == contents(drawn.root)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"identities": 5}, "identities is an even number of people, at least 4, got 5"),
        ({"images_per_camera": 0}, "images_per_camera must be at least 1, got 0"),
        ({"siblings": 1.5}, "siblings must be between 0 and 1, got 1.5"),
        ({"seed": -1}, "seed must be between 0 and 4294967295, got -1"),
        ({"hardness": -1.0}, "hardness must be at least 0, got -1.0"),
        ({"height": 8}, "height must be between 16 and 4096, got 8"),
        ({"width": 70_000}, "width must be between 16 and 4096, got 70000"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path: Path, settings: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Synthetic(tmp_path, **settings)


def test_people_are_found_again_from_every_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MPANET_CACHE", str(tmp_path / "cache"))
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        people = Synthetic(identities=4, images_per_camera=1, height=32, width=16, workers=1)
        people.prepare()
        assert people.root.parent == worlds() == tmp_path / "cache/synthetic"
        assert list(Path().iterdir()) == []
        assert "data_dir" not in people.check_command
    assert capsys.readouterr().err.count("Drawing") == 1


def test_the_cache_folder_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPANET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert worlds() == tmp_path / "xdg/mpanet_pl/synthetic"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert worlds() == tmp_path / ".cache/mpanet_pl/synthetic"
    monkeypatch.setenv("MPANET_CACHE", "~/mine")
    assert worlds() == tmp_path / "mine/synthetic"


@pytest.mark.parametrize("walk", [{}, {"tracks": True, "track_length": 2}])
def test_who_is_where_is_known_before_anybody_is_drawn(tmp_path: Path, walk: dict) -> None:
    people = Synthetic(tmp_path, identities=6, images_per_camera=1, height=16, width=16, workers=1, **walk)
    foreseen = people.read()
    assert not people.root.exists()
    people.prepare()
    (people.root / foreseen.test.paths[0]).unlink()  # a world that lost an image is one that is still to be drawn
    for splits in (people.read(), people.prepare() or people.read()):
        for name in ("train", "test"):
            before, drawn = getattr(foreseen, name), getattr(splits, name)
            assert (before.paths, before.sources) == (drawn.paths, drawn.sources)
            for column in ("identities", "cameras", "infrared"):
                assert getattr(before, column).equal(getattr(drawn, column))
            assert (before.tracks is None) == (drawn.tracks is None) == (not walk)
        assert foreseen.held_out.equal(splits.held_out)


def test_two_who_draw_one_world_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worlds = [Synthetic(tmp_path, identities=4, images_per_camera=1, workers=1) for _ in range(2)]
    written, failed = [], []
    real = drawing._write
    monkeypatch.setattr(drawing, "_write", lambda path, content: written.append(path) or real(path, content))

    def prepare(world: Synthetic) -> None:
        try:
            world.prepare()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=prepare, args=(world,)) for world in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(written) == len(set(written)) > 0


def test_people_who_walk_are_tracklets(tmp_path: Path) -> None:
    walking = Synthetic(
        tmp_path, identities=6, images_per_camera=1, height=16, width=16, workers=1, tracks=True, track_length=7
    )
    walking.prepare()
    splits = walking.read()
    for catalogue in (splits.train, splits.test):
        assert catalogue.tracks is not None
        _, place, lengths = catalogue.tracks.unique(return_inverse=True, return_counts=True)
        assert set(lengths.tolist()) == {7}
        for track in range(len(lengths)):
            rows = (place == track).nonzero().flatten()
            who = {(int(catalogue.identities[row]), int(catalogue.cameras[row])) for row in rows}
            numbers = [int(catalogue.paths[row].rpartition("_")[2][:3]) for row in rows]
            assert (len(who), numbers) == (1, list(range(7)))
    assert len(splits.test.tracks.unique()) == splits.test.num_identities * 6
    assert Annotations.read(walking.root, splits.test) is not None
    assert walking.frames == 6
    assert walking.root.name.startswith("sysu-6x1x7-")
    assert "data.dataset.tracks=True" in walking.check_command
    with pytest.raises(UserError, match="frames is for layouts of tracklets"):
        drawing.World(layout="llcm", frames=3)


def test_a_domain_is_shifted_in_light_clothes_and_cameras(tmp_path: Path) -> None:
    def drawn(**shift: float) -> Synthetic:
        return Synthetic(
            tmp_path, identities=4, images_per_camera=1, test_share=0.5, height=16, width=16, workers=1, **shift
        )

    def worn(clothes: float) -> int:
        people = drawing.World(identities=40, clothes=clothes).people().values()
        return [person.attributes["scarf"] for person in people].count("scarf")

    def brightness(world: Synthetic) -> float:
        with Image.open(world.root / "cam1/0001/0001.jpg") as picture:
            return float(np.asarray(picture).mean())

    usual, night, elsewhere = drawn(), drawn(light=-1.0), drawn(cameras=9)
    for world in (usual, night, elsewhere):
        world.prepare()
    assert brightness(night) < brightness(usual) - 10
    assert contents(elsewhere.root)["cam1/0001/0001.jpg"] != contents(usual.root)["cam1/0001/0001.jpg"]
    assert worn(-2.0) < 12 < worn(0.0) < 28 < worn(2.0)
    assert "light" not in (usual.root / "manifest.json").read_text(), "as worlds were told before"
    assert night.root.name.endswith("-light-1-16x16-v2")
    with pytest.raises(UserError, match="light must be between -3 and 3"):
        Synthetic(tmp_path, light=4.0)
