"""A run on tracklets: a network that sees frames, one that sees clips, results a row a tracklet."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import SMALL, SMALL_WORLD, scores_of, type_in

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from test_tracklets import tree

from mpanet_pl.evaluate import evaluate
from mpanet_pl.train import train

CLIPS = '''
import torch
from torch import nn

from mpanet_pl.network import Embedding


class Clips(nn.Module):
    """Colours' means of a tracklet through one layer."""

    asks = ("frames",)

    def __init__(self, width=8):
        super().__init__()
        self.layer, self.dimension = nn.Linear(3, width), width

    def forward(self, images, infrared=None, *, frames):
        assert len(images) % frames == 0 and frames == 3
        of_tracks = self.layer(images.mean((2, 3)).unflatten(0, (-1, frames)).mean(1))
        rows = of_tracks.repeat_interleave(frames, 0)
        return Embedding(images.new_zeros(len(images), 0, 1, 1), rows, rows)
'''


def test_train_and_evaluate_on_tracklets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree("vcm", tmp_path / "vcm")
    small = [text for text in SMALL if "trunk" not in text]
    asked = ["dataset=vcm", f"data_dir={root}", *small, "data.frames=3", "model.network.trunk=resnet18_thin"]
    asked += ["trainer.max_epochs=1", "trainer.limit_train_batches=1", f"run_dir={tmp_path / 'run'}"]
    asked += ["trainer.check_val_every_n_epoch=1", "validation.start=1"]
    assert type_in("train", train, asked, monkeypatch) == 0
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert set(results["scores"]["last"]) == {"infrared_to_visible", "visible_to_infrared"}
    again = [
        f"ckpt={tmp_path / 'run/checkpoints/last.ckpt'}",
        "trainer.accelerator=cpu",
        f"run_dir={tmp_path / 'again'}",
    ]
    assert type_in("evaluate", evaluate, again, monkeypatch) == 0
    assert json.loads((tmp_path / "again/results.json").read_text())["scores"]["last"] == results["scores"]["last"]
    frames = [*again[:2], "data.frames=null", f"run_dir={tmp_path / 'frames'}"]
    assert type_in("evaluate", evaluate, frames, monkeypatch) == 0


def test_a_network_of_clips_is_told_how_many_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree("vcm", tmp_path / "vcm")
    (tmp_path / "my_clips.py").write_text(CLIPS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    small = [text for text in SMALL if "model.network" not in text]
    asked = [
        "dataset=vcm",
        f"data_dir={root}",
        *small,
        "data.frames=3",
        f"run_dir={tmp_path / 'run'}",
    ]
    asked += ["+model.network._target_=my_clips.Clips", "trainer.max_epochs=1", "trainer.limit_train_batches=1"]
    assert type_in("train", train, asked, monkeypatch) == 0


@pytest.mark.slow
def test_one_key_makes_the_drawn_people_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracklets are trained on and scored; six frames of them and one are other embeddings of the same tracklets."""
    small = [text for text in SMALL_WORLD if "trunk" not in text and "siblings" not in text]
    asked = [*small, "data.dataset.tracks=true", "data.dataset.images_per_camera=1", "data.dataset.workers=1"]
    asked += ["trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "trainer.limit_train_batches=2"]
    asked += [f"data_dir={tmp_path / 'data'}", f"run_dir={tmp_path / 'run'}"]
    assert type_in("train", train, asked, monkeypatch) == 0
    last, saved = f"ckpt={tmp_path / 'run/checkpoints/last.ckpt'}", {}
    for frames in (6, 1):
        path = tmp_path / f"{frames}.npz"
        again = [last, f"data.frames={frames}", "trainer.accelerator=cpu", f"save_features={path}"]
        assert type_in("evaluate", evaluate, [*again, f"run_dir={tmp_path / str(frames)}"], monkeypatch) == 0
        with np.load(path) as stored:
            saved[frames] = stored["embeddings"]
    assert saved[6].shape == saved[1].shape == (4 * 6, saved[6].shape[1]), "a row is a tracklet of the four people"
    assert not np.allclose(saved[6], saved[1])
    assert scores_of(tmp_path / "6")["last"] == scores_of(tmp_path / "run")["last"]
