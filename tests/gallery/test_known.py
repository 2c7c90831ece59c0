"""From which cosine on an answer is known: from the checkpoint to the gallery, its people, vectors and answers."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from checkpoints import draw_crops
from commands import type_in
from gallery.served import client_of
from torch.nn.functional import normalize

from mpanet_pl.errors import UserError
from mpanet_pl.evaluation.impostors import Law
from mpanet_pl.evaluation.thresholds import ALL, SINGLE, Setting, Threshold
from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.embedder import load
from mpanet_pl.gallery.known import Enrolled, limit_of, promise_of, threshold_of
from mpanet_pl.gallery.projection import learn
from mpanet_pl.gallery.store import Gallery
from mpanet_pl.run.calibrating import keep_in
from mpanet_pl.search import search


def setting(queries: str, gallery: str, place: float, shots: str = SINGLE) -> Setting:
    laws = (Law(0.05, place, 0.1, 0.15, (0.02, 0.001, 0.002), 29),)
    return Setting(queries, gallery, shots, 1.0 if shots == SINGLE else 3.0, 30, 120, laws)


LEFT = Threshold(
    "held-out training people",
    (
        setting("infrared", "visible", 1.0),
        setting("visible", "visible", 1.2),
        setting("infrared", "both", 1.1),
        setting("infrared", "visible", 1.15, ALL),
    ),
)


@pytest.fixture
def mine(ckpt: Path, tmp_path: Path) -> Path:
    """A checkpoint in a folder of its own, far from its run."""
    keep_in(shutil.copy(ckpt, tmp_path / "mine.ckpt"), LEFT.plain())
    return tmp_path / "mine.ckpt"


def holding(
    identities: list[str | None], modalities: list[str | None], *, threshold: Any = LEFT, **record: Any
) -> Gallery:
    """What is asked of a gallery."""
    table = pa.table({"identity": pa.array(identities, pa.string()), "modality": pa.array(modalities, pa.string())})
    plain = threshold.plain() if isinstance(threshold, Threshold) else threshold
    gallery = SimpleNamespace(
        columns=lambda *names: table.select(list(names)),
        record={"threshold": plain, **record},
        folder=Path("people"),
        projection=None,
    )
    return gallery  # type: ignore[return-value]


def test_a_checkpoint_carries_its_threshold(mine: Path, ckpt: Path) -> None:
    assert threshold_of(load(mine, device="cpu")) == LEFT.plain()
    assert threshold_of(load(ckpt, device="cpu")) is None
    assert threshold_of(load(mine, device="cpu", flip=True)) is None  # of other embeddings
    before, after = (torch.load(path, weights_only=True) for path in (ckpt, mine))
    assert after.keys() - before.keys() == {"threshold"}
    assert all(torch.equal(before["state_dict"][name], value) for name, value in after["state_dict"].items())


def test_a_damaged_threshold_is_told(mine: Path) -> None:
    plain = LEFT.plain()
    plain["settings"][0]["laws"][0]["place"] = float("nan")
    keep_in(mine, plain)
    with pytest.raises(UserError, match=r"mine\.ckpt holds a threshold that is damaged"):
        threshold_of(load(mine, device="cpu"))


def test_a_gallery_says_who_is_in_it() -> None:
    assert Enrolled.of(holding(["a", "a", "b", None, None], ["visible"] * 5)) == (4, 1.25, "visible")
    assert Enrolled.of(holding(["a"] * 4, ["visible", "infrared"] * 2)) == (1, 4.0, "both")
    assert Enrolled.of(holding(["a", "b"], ["visible", None])).modality is None
    assert Enrolled.of(holding([], [])) == (1, 0.0, None)


def test_the_limit_is_of_the_people_who_are_there_now() -> None:
    small = holding([str(n) for n in range(50)], ["visible"] * 50)
    large = holding([str(n) for n in range(500)], ["visible"] * 500)
    assert limit_of(small, "auto") == LEFT.at(50, gallery="visible").value < (limit_of(large, "auto") or 0)
    assert limit_of(small, "auto", "infrared") == LEFT.at(50, gallery="visible", queries="infrared").value
    several = holding([str(n // 3) for n in range(150)], ["visible"] * 150)
    assert limit_of(several, "auto") == LEFT.at(50, gallery="visible", images=3).value
    both = holding([str(n) for n in range(50)], ["visible", "infrared"] * 25)
    assert limit_of(both, "auto") == LEFT.at(50, gallery="both").value
    told = promise_of(large, limit_of(large, "auto"))
    assert "(5 % false alarms expected with 500 people enrolled, at most " in told
    assert "calibrated on 30 held-out training people: visible queries in a gallery of visible images, single" in told


def test_a_limit_of_one_s_own_has_its_promise_too() -> None:
    gallery = holding([str(n) for n in range(50)], ["visible"] * 50)
    limit = LEFT.at(50, gallery="visible").value + 0.05
    assert limit_of(gallery, limit) == limit
    rate = LEFT.promise(limit, 50, gallery="visible").rate
    assert 0 < rate < 0.04
    assert promise_of(gallery, limit).startswith(f"known from a cosine of {limit:.3f} ({100 * rate:.2g} % false alarms")
    assert "rows are tracklets" in promise_of(holding(["a"], ["visible"], group="t"), limit)


def test_where_nobody_can_say_nobody_is_known() -> None:
    nobody = holding(["a"], ["visible"], threshold=None)
    assert (limit_of(nobody, "auto"), limit_of(nobody, 0.5), limit_of(nobody, None)) == (None, 0.5, None)
    assert (promise_of(nobody, None), promise_of(nobody, 0.5)) == ("", "known from a cosine of 0.500")
    old = holding(
        ["a"], ["visible"], threshold={"value": 0.8, "false_alarm_rate": 0.05, "calibrated_on": "test people"}
    )
    assert limit_of(old, "auto") is None
    huge = holding([str(n) for n in range(1000)], ["visible"] * 1000)
    assert limit_of(huge, "auto") is None
    assert promise_of(huge, None) == (
        "neither known nor unknown: A threshold of 30 people cannot be carried over to a gallery of 1000: at most 870. "
        "Calibrate on more people, or give a cosine (threshold=0.8)."
    )
    assert promise_of(huge, 0.8) == "known from a cosine of 0.800"


def test_small_vectors_have_their_own_limit() -> None:
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(60, 64, generator=draw).repeat_interleave(5, 0) + 0.3 * torch.randn(300, 64, generator=draw)
    projection = learn(rows, 16)
    gallery = holding([str(n) for n in range(50)], ["visible"] * 50)
    gallery.projection = projection
    whole, small = LEFT.at(50, gallery="visible").value, limit_of(gallery, "auto")
    assert small == pytest.approx(projection.translated(whole))
    assert "(5 % false alarms expected" in promise_of(gallery, small)
    alike = holding([str(n) for n in range(50)], ["visible"] * 50)
    alike.projection = learn(torch.randn(300, 64, generator=draw), 16)  # none of these look alike
    assert limit_of(alike, "auto") is None
    assert promise_of(alike, None).startswith("neither known nor unknown: A cosine of 0.8")
    first, second = np.triu_indices(300, 1)
    of_whole, of_small = ((unit @ unit.T).numpy()[first, second] for unit in (normalize(rows), projection(rows)))
    for cosine in np.quantile(of_whole, [0.5, 0.9, 0.99]):
        share, expected = (of_whole >= cosine).mean(), (of_small >= projection.translated(cosine)).mean()
        assert expected == pytest.approx(share, rel=0.05)


def test_answers_are_known_from_it_on(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_crops(tmp_path / "crops", 6)
    embedder = load(mine, device="cpu")
    embed_images(embedder, tmp_path / "crops", tmp_path / "people")
    gallery = Gallery(tmp_path / "people")
    own = LEFT.at(6).value
    assert limit_of(gallery, "auto") == own
    words = [f"gallery={tmp_path}/people", f"queries={tmp_path}/crops", f"out={tmp_path}/out", "device=cpu", "k=5"]
    assert type_in("search", search, words, monkeypatch) == 0
    assert f"An answer is known from a cosine of {own:.3f} (5 % false alarms expected with 6" in capsys.readouterr().out
    scores = pq.read_table(tmp_path / "out/results.parquet").to_pydict()
    assert scores["known"] == [score >= np.float32(own) for score in scores["score"]]
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
