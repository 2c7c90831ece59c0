"""A run on tracklets: a network that sees frames, one that sees clips, results a row a tracklet."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import SMALL, SMALL_WORLD, scores_of, type_in
from trees import draw_layout

from mpanet_pl.compare import main as compare
from mpanet_pl.evaluate import evaluate
from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.embedder import load
from mpanet_pl.gallery.store import Gallery
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


@pytest.mark.slow
def test_train_and_evaluate_on_tracklets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw_layout("vcm", tmp_path / "vcm")
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
    root = draw_layout("vcm", tmp_path / "vcm")
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
def test_one_key_makes_the_drawn_people_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Tracklets are trained on and scored, searched for in an open set, compared with single frames, and embedded."""
    small = [text for text in SMALL_WORLD if "trunk" not in text and "siblings" not in text]
    asked = [*small, "model.network.trunk=resnet18_thin", "data.dataset.tracks=true", "data.dataset.track_length=6"]
    asked += ["data.dataset.images_per_camera=1", "data.dataset.workers=1", f"data_dir={tmp_path / 'data'}"]
    asked += ["trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "trainer.limit_train_batches=2"]
    assert type_in("train", train, [*asked, f"run_dir={tmp_path / 'run'}"], monkeypatch) == 0
    ckpt, saved = tmp_path / "run/checkpoints/last.ckpt", {}
    for frames, more in ((6, ["measure=open_set"]), (1, [])):
        path = tmp_path / f"{frames}.npz"
        again = [f"ckpt={ckpt}", f"data.frames={frames}", "trainer.accelerator=cpu", f"save_features={path}", *more]
        assert type_in("evaluate", evaluate, [*again, f"run_dir={tmp_path / str(frames)}"], monkeypatch) == 0
        with np.load(path) as stored:
            saved[frames] = dict(zip(stored["paths"].tolist(), torch.from_numpy(stored["embeddings"]), strict=True))
    assert len(saved[6]) == len(saved[1]) == 4 * 6, "a row is a tracklet of the four people"
    assert all(not torch.allclose(vector, saved[1][path]) for path, vector in saved[6].items())
    assert scores_of(tmp_path / "6")["last"] == scores_of(tmp_path / "run")["last"]
    assert "open set" in (tmp_path / "6/results.md").read_text()
    capsys.readouterr()
    compare([str(tmp_path / "1"), str(tmp_path / "6")])
    assert "all/single" in capsys.readouterr().out, "the same queries, of six frames and of one"
    root = next((tmp_path / "data").glob("sysu-*"))
    done = embed_images(
        load(ckpt), root / "cam3", tmp_path / "gallery", name=r"(?P<track>\d+/\d+)_\d+", group="track", workers=1
    )
    gallery = Gallery(tmp_path / "gallery")
    rows = gallery.rows(np.arange(len(gallery)))
    assert done.rows == len(rows) == 10, "everybody's tracklet under camera 3"
    for number, track in enumerate(rows["track"].to_pylist()):
        if f"cam3/{track}_000.jpg" in saved[6]:
            own = saved[6][f"cam3/{track}_000.jpg"]
            found = torch.from_numpy(gallery.vectors([number])[0])
            assert torch.cosine_similarity(own, found, dim=0) > 0.9999, "all six frames, as the evaluation means them"
