"""MARS' and MEVID's lists, as their releases have them, by the options of one reader and by their configurations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import SMALL, compose, type_in
from hydra.utils import instantiate
from scipy.io import savemat
from trees import draw_image, write

from mpanet_pl.data import TrackLists
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import TrackListProtocol
from mpanet_pl.train import train

FRAMES = 2
SPLIT = {"train": (1, 2, 3), "test": (4, 5)}
CAMERAS = (1, 2)


def draw_mars(root: Path, *, junk: bool = True) -> Path:
    """Two tracklets a person and camera; the test has a distractor (0) and, numbered -1, what is nobody."""
    queries = []
    for split, people in SPLIT.items():
        names, lines = [], []
        for person in [*people, *((0, -1) if split == "test" and junk else ())]:
            called = f"{person:04d}" if person >= 0 else "00-1"
            for camera in CAMERAS:
                for track in (1, 2):
                    first = len(names) + 1
                    for frame in range(1, FRAMES + 1):
                        names.append(f"{called}C{camera}T{track:04d}F{frame:03d}.jpg")
                        draw_image(root / f"bbox_{split}" / called / names[-1], abs(person), False, seed=frame)
                    lines.append([first, len(names), person, camera])
                    queries += [len(lines)] if split == "test" and person > 0 and track == 1 else []
        write(root / f"info/{split}_name.txt", "\n".join(names) + "\n")
        savemat(root / f"info/tracks_{split}_info.mat", {f"track_{split}_info": np.array(lines, dtype=np.float64)})
    savemat(root / "info/query_IDX.mat", {"query_IDX": np.array([queries])})
    return root


def draw_mevid(root: Path) -> Path:
    """Counted from 0, an outfit before the camera, numbers as numpy's savetxt writes them, queries on a line each."""
    queries = []
    for split, people in SPLIT.items():
        names, lines = [], []
        for person in people:
            for camera in CAMERAS:
                for outfit in (0, 1):
                    first = len(names)
                    for frame in range(FRAMES):
                        names.append(f"{person:04d}O{outfit:03d}C{300 + camera}T000F{frame:05d}.jpg")
                        draw_image(root / f"bbox_{split}/{person:04d}" / names[-1], person, False, seed=frame)
                    lines.append([first, len(names) - 1, person, outfit, 300 + camera])
                    queries += [len(lines) - 1] if split == "test" and outfit == 0 else []
        write(root / f"{split}_name.txt", "\n".join(names) + "\n")
        np.savetxt(root / f"track_{split}_info.txt", np.array(lines))
    np.savetxt(root / "query_IDX.txt", np.array(queries))
    return root


DRAWN = {"mars": draw_mars, "mevid": draw_mevid}


def configured(name: str, root: Path) -> TrackLists:
    dataset = instantiate(compose("train", [f"dataset={name}", f"data_dir={root}"]).data.dataset)
    assert isinstance(dataset, TrackLists)
    return dataset


@pytest.mark.parametrize("name", DRAWN)
def test_the_lists_are_read_by_their_configuration(name: str, tmp_path: Path) -> None:
    dataset = configured(name, DRAWN[name](tmp_path))
    splits = dataset.read()
    assert splits.train.identities.unique().tolist() == [0, 1, 2]
    assert set(splits.train.sources or ()) == {f"{name}/{person}" for person in SPLIT["train"]}
    assert not splits.test.infrared.any()
    assert splits.test.tracks is not None
    assert splits.test.queries is not None
    tracks, lengths = splits.test.tracks.unique(return_counts=True)
    assert lengths.tolist() == [FRAMES] * len(tracks)
    assert len(tracks) == {"mars": (2 + 1) * 4, "mevid": 2 * 4}[name]  # MARS' distractor stays, nobody does not
    assert splits.test.identities.unique().tolist() == {"mars": [0, 4, 5], "mevid": [4, 5]}[name]
    assert all((tmp_path / path).is_file() for path in splits.train.paths + splits.test.paths)
    asked = splits.test[splits.test.queries]
    assert [(int(i), int(c)) for i, c in zip(asked.identities[::2], asked.cameras[::2], strict=True)] == [
        (person, camera + (300 if name == "mevid" else 0)) for person in SPLIT["test"] for camera in CAMERAS
    ]
    assert ("tracklets of nobody, which are left out: 4" in " ".join(dataset.oddities(splits))) == (name == "mars")


def test_queries_meet_everything_but_their_own_camera(tmp_path: Path) -> None:
    test = configured("mars", draw_mars(tmp_path)).read().test
    for both in (True, False):
        protocol = TrackListProtocol(queries_in_gallery=both)
        ((queries, galleries, _),) = protocol.searches(test)
        (gallery,) = galleries["queries_to_gallery"]
        assert (
            set(gallery.tolist()) >= set(queries.tolist())
            if both
            else not set(gallery.tolist()) & set(queries.tolist())
        )
        ignored = protocol.ignored(test[queries], test[gallery])
        assert ignored is not None
        for row, query in enumerate(queries.tolist()):
            for column, other in enumerate(gallery.tolist()):
                same = (
                    [test.identities[i].item() for i in (query, other)],
                    [test.cameras[i].item() for i in (query, other)],
                )
                assert bool(ignored[row, column]) == all(a == b for a, b in same)


def test_lists_that_cannot_be_read_are_told_at_once(tmp_path: Path) -> None:
    dataset = configured("mars", draw_mars(tmp_path))
    (tmp_path / "info/tracks_train_info.mat").write_bytes(b"no MATLAB file")
    savemat(tmp_path / "info/query_IDX.mat", {"query_IDX": np.array([[1, 99]])})
    with pytest.raises(UserError) as told:
        dataset.read()
    assert "split files that cannot be read (1): info/tracks_train_info.mat (" in str(told.value)
    assert "queries that are no line of track_test_info (1): 99" in str(told.value)
    with pytest.raises(UserError, match="columns are of modality, first, last, identity, camera, other"):
        TrackLists(tmp_path, columns=["first", "last", "pid", "camera"])


@pytest.mark.slow
def test_visible_tracklets_alone_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["dataset=mars", f"data_dir={draw_mars(tmp_path / 'mars')}", *SMALL, "trainer.max_epochs=1"]
    asked = [text for text in asked if "trunk" not in text] + ["model.network.trunk=resnet18_thin"]
    asked += ["trainer.limit_train_batches=1", "data.frames=2", f"run_dir={tmp_path / 'run'}"]
    assert type_in("train", train, asked, monkeypatch) == 0
    results = (tmp_path / "run/results.md").read_text()
    assert "queries_to_gallery" in results
    assert "nan" not in (tmp_path / "run/metrics.csv").read_text()


def test_all_frames_of_a_short_tracklet_stand_for_it(tmp_path: Path) -> None:
    """A tracklet of one frame, where none is too short, is that frame six times."""
    from mpanet_pl.data.tracklets import Tracklets

    root = draw_mars(tmp_path, junk=False)
    lines = np.array(
        [[first, first, person, camera] for first, person, camera in ((1, 4, 1), (3, 4, 2), (5, 5, 1), (7, 5, 2))]
    )
    savemat(root / "info/tracks_test_info.mat", {"track_test_info": lines})
    savemat(root / "info/query_IDX.mat", {"query_IDX": np.array([[1]])})
    test = configured("mars", root).read().test
    assert Tracklets(test, 6).first(torch.arange(4)).tolist() == [[row] * 6 for row in range(4)]
