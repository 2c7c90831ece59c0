"""From which cosine on an answer is known: from the run's results to the gallery, its vectors and its answers."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from checkpoints import draw_crops
from commands import type_in
from gallery.served import client_of
from torch.nn.functional import normalize

from mpanet_pl.evaluation.tables import Results
from mpanet_pl.gallery.compact import learn
from mpanet_pl.gallery.embedder import load
from mpanet_pl.gallery.embedding import embed_images
from mpanet_pl.gallery.known import limit_of, threshold_of
from mpanet_pl.gallery.store import Gallery
from mpanet_pl.search import search

LEFT = {"value": 0.8, "false_alarm_rate": 0.05, "calibrated_on": "test people"}


@pytest.fixture
def run(ckpt: Path, tmp_path: Path) -> Path:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    shutil.copy(ckpt, tmp_path / "run/checkpoints/last.ckpt")
    Results({}, {}, {}, {}, threshold=LEFT).write(tmp_path / "run")
    return tmp_path / "run"


def test_small_vectors_have_their_own_threshold(run: Path) -> None:
    embedder = load(run / "checkpoints/last.ckpt", device="cpu")
    assert threshold_of(embedder) == LEFT
    rows = torch.randn(300, embedder.dimension, generator=torch.Generator().manual_seed(0)) + 0.5
    embedder.projection = learn(rows, 16)
    told = threshold_of(embedder)
    assert told is not None
    first, second = np.triu_indices(300, 1)
    whole, small = ((unit @ unit.T).numpy()[first, second] for unit in (normalize(rows), embedder.projection(rows)))
    for cosine in np.quantile(whole, [0.5, 0.9, 0.99]):
        share, expected = (whole >= cosine).mean(), (small >= embedder.projection.translated(cosine)).mean()
        assert expected == pytest.approx(share, rel=0.05)


def test_only_the_run_s_own_embeddings_have_it(run: Path) -> None:
    assert threshold_of(load(run / "checkpoints/last.ckpt", device="cpu", flip=True)) is None
    (run / "checkpoints/last.ckpt").rename(run / "checkpoints/best.ckpt")
    assert threshold_of(load(run / "checkpoints/best.ckpt", device="cpu")) is None


@pytest.mark.parametrize("value", [None, "high", float("nan")])
def test_a_threshold_that_is_none_is_none(value: object, run: Path) -> None:
    Results({}, {}, {}, {}, threshold=LEFT | {"value": value}).write(run)
    assert threshold_of(load(run / "checkpoints/last.ckpt", device="cpu")) is None


def test_answers_are_known_from_it_on(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_crops(tmp_path / "crops", 6)
    embedder = load(run / "checkpoints/last.ckpt", device="cpu")
    embed_images(embedder, tmp_path / "crops", tmp_path / "people")
    gallery = Gallery(tmp_path / "people")
    assert limit_of(gallery, "auto") == 0.8
    words = [f"gallery={tmp_path}/people", f"queries={tmp_path}/crops", f"out={tmp_path}/out", "device=cpu", "k=5"]
    assert type_in("search", search, words, monkeypatch) == 0
    scores = pq.read_table(tmp_path / "out/results.parquet").to_pydict()
    assert scores["known"] == [score >= np.float32(0.8) for score in scores["score"]]
    limit = float(np.median(scores["score"]))
    assert type_in("search", search, [*words, f"threshold={limit}"], monkeypatch) == 0
    scores = pq.read_table(tmp_path / "out/results.parquet").to_pydict()
    assert scores["known"] == [score >= limit for score in scores["score"]]
    sheet = (tmp_path / "out/sheet.html").read_text()
    assert sheet.count(" unknown") == scores["known"].count(False) > 0
    assert f"known from a cosine of {limit:.3f}" in sheet
    with client_of(gallery.folder, embedder, threshold=limit) as client:
        answers = client.post("/search", params={"id": "1_1000.png", "k": 5}).json()["answers"]
        assert {answer["known"] for answer in answers} <= {True, False}
        assert [answer["known"] for answer in answers] == [answer["score"] >= limit for answer in answers]
        assert "known from a cosine" in client.get("/about").json()["known"]
    assert type_in("search", search, [*words, "threshold=null"], monkeypatch) == 0
    assert set(pq.read_table(tmp_path / "out/results.parquet")["known"].to_pylist()) == {None}
    for wrong in ("high", "1.5"):
        assert type_in("search", search, [*words, f"threshold={wrong}"], monkeypatch) == 2


def test_a_gallery_without_a_threshold_calls_nobody_unknown(tmp_path: Path) -> None:
    record = {"threshold": None}
    gallery = type("Bare", (), {"record": record})()
    assert (limit_of(gallery, "auto"), limit_of(gallery, 0.5), limit_of(gallery, None)) == (None, 0.5, None)
