"""MARS' and MEVID's lists, as their releases have them, by the options of one reader and by their configurations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import SMALL, compose, type_in
from hydra.utils import instantiate
from scipy.io import savemat
from trees import MARS, MARS_FRAMES, MARS_PEOPLE, draw_mars

from mpanet_pl.data import TrackLists
from mpanet_pl.errors import UserError
from mpanet_pl.evaluation import TrackListProtocol
from mpanet_pl.train import train


def configured(name: str, root: Path) -> TrackLists:
    dataset = instantiate(compose("train", [f"dataset={name}", f"data_dir={root}"]).data.dataset)
    assert isinstance(dataset, TrackLists)
    return dataset


@pytest.mark.parametrize("name", MARS)
def test_the_lists_are_read_by_their_configuration(name: str, tmp_path: Path) -> None:
    dataset = configured(name, MARS[name](tmp_path))
    splits = dataset.read()
    assert splits.train.identities.unique().tolist() == [0, 1, 2]
    assert set(splits.train.sources or ()) == {f"{name}/{person}" for person in MARS_PEOPLE["train"]}
    assert not splits.test.infrared.any()
    assert splits.test.tracks is not None
    assert splits.test.queries is not None
    tracks, lengths = splits.test.tracks.unique(return_counts=True)
    assert lengths.tolist() == [MARS_FRAMES] * len(tracks)
    assert len(tracks) == {"mars": (2 + 1) * 4, "mevid": 2 * 4}[name]  # MARS' distractor stays, nobody does not
    assert splits.test.identities.unique().tolist() == {"mars": [0, 4, 5], "mevid": [4, 5]}[name]
    assert all((tmp_path / path).is_file() for path in splits.train.paths + splits.test.paths)
    asked = splits.test[splits.test.queries]
    assert [(int(i), int(c)) for i, c in zip(asked.identities[::2], asked.cameras[::2], strict=True)] == [
        (person, camera + (300 if name == "mevid" else 0)) for person in MARS_PEOPLE["test"] for camera in (1, 2)
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
