"""The commands, typed: embed, then search, and what they say when something is wrong."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints import draw_crops
from commands import type_in

from mpanet_pl.embed import embed
from mpanet_pl.gallery import projection_learning, shards
from mpanet_pl.search import search

NAME = r'name="(?P<camera>\d+)_(?P<time>\d+)"'


@pytest.fixture
def gallery(ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    draw_crops(tmp_path / "crops", 9)
    words = [f"ckpt={ckpt}", f"images={tmp_path}/crops", f"out={tmp_path}/people", NAME, "trainer=cpu"]
    assert type_in("embed", embed, words, monkeypatch) == 0
    assert "people holds 9 rows of 256 numbers.\nTrained on synthetic" in (told := capsys.readouterr().out)
    assert "apply to this gallery.\nNext: python -m mpanet_pl.search" in told
    return tmp_path / "people"


def test_a_folder_becomes_a_gallery_that_answers(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crops/3_1020.png").unlink()
    words = [f"gallery={gallery}", f"queries={tmp_path}/crops/1_1000.png", f"out={tmp_path}/answers", "device=cpu"]
    assert type_in("search", search, [*words, "k=3", "only.cameras=[2,3]"], monkeypatch) == 0
    table = pq.read_table(tmp_path / "answers/results.parquet").to_pylist()
    assert [row["place"] for row in table] == [1, 2, 3]
    assert {row["camera"] for row in table} <= {"2", "3"}
    assert len((tmp_path / "answers/results.csv").read_text().splitlines()) == 4
    sheet = (tmp_path / "answers/sheet.html").read_text()
    assert sheet.count("<img ") + sheet.count('class="gone"') == 4
    assert "http" not in sheet.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["only.modality=radar"], "only.modality must be visible or infrared"),
        (["k=0"], "k must be at least 1"),
        (["only.cameras=3"], "only.cameras must be a list"),
        (["only.after=yesterday"], "only.after must be a number"),
        (["ckpt=nowhere.ckpt"], "nowhere.ckpt"),
        (["device=nowhere"], "not there"),
    ],
)
def test_mistakes_are_sentences(
    words: list[str],
    message: str,
    gallery: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [f"gallery={gallery}", f"queries={tmp_path}/crops", f"out={tmp_path}/answers", "device=cpu"]
    assert type_in("search", search, [*given, *words], monkeypatch) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "answers").exists()


def test_an_extra_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    words = ["ckpt=a.ckpt", f"images={tmp_path}", f"out={tmp_path}/people"]
    assert type_in("embed", embed, words, monkeypatch) == 2
    assert 'pip install "mpanet_pl[gallery]"' in capsys.readouterr().err


@pytest.mark.slow
def test_small_vectors_are_learnt_from_the_training_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a checkpoint that training left, and what the gallery says of it."""
    from commands import SMALL_WORLD, compose

    from mpanet_pl.train import train

    train(
        compose(
            "train", [*SMALL_WORLD, "trainer.max_epochs=1", f"data_dir={tmp_path}/world", f"run_dir={tmp_path}/run"]
        )
    )
    draw_crops(tmp_path / "crops", 5)
    words = [f"ckpt={tmp_path}/run/checkpoints/last.ckpt", f"images={tmp_path}/crops", f"out={tmp_path}/people"]
    assert type_in("embed", embed, [*words, "compact=16", "trainer=cpu"], monkeypatch) == 0
    record = json.loads((tmp_path / "people/record.json").read_text())
    assert record["dimension"] == 16
    assert "synthetic" in record["terms"]
    assert type_in("embed", embed, [*words, "compact=16", "data_dir=nowhere", "trainer=cpu"], monkeypatch) == 0
    assert type_in("embed", embed, [*words, "compact=17", "trainer=cpu"], monkeypatch) == 2
    assert "people has vectors of 16 numbers: leave compact=17 out" in capsys.readouterr().err
    assert type_in("embed", embed, [*words, "trainer=cpu"], monkeypatch) == 0
    words[-1] = f"out={tmp_path}/others"
    assert type_in("embed", embed, [*words, "compact=16", "data_dir=nowhere", "trainer=cpu"], monkeypatch) == 2
    assert "are not in nowhere" in capsys.readouterr().err
    monkeypatch.setattr(projection_learning, "ENOUGH", 8)
    assert type_in("embed", embed, [*words, "trainer=cpu"], monkeypatch) == 0
    assert json.loads((tmp_path / "others/record.json").read_text())["dimension"] == 8
    shutil.move(tmp_path / "world", tmp_path / "moved")
    words[-1] = f"out={tmp_path}/whole"
    assert type_in("embed", embed, [*words, "trainer=cpu"], monkeypatch) == 0
    told = capsys.readouterr().out
    assert "compact=auto keeps all numbers of a vector: The training images are not in" in told
    assert json.loads((tmp_path / "whole/record.json").read_text())["compact"] is None
    others = tmp_path / "crops"
    assert type_in("embed", embed, [*words[:-1], f"out={others}", "trainer=cpu"], monkeypatch) == 2
    assert not (others / "projection.npz").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_a_sentence_and_nothing_is_lost(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_crops(tmp_path / "crops", 9)
    words = [f"ckpt={ckpt}", f"images={tmp_path}/crops", NAME, "shard_size=3", "trainer=cpu"]
    assert type_in("embed", embed, [*words, f"out={tmp_path}/whole"], monkeypatch) == 0
    written = shards.pq.write_table

    def full(table: pa.Table, path: Path, **keywords: object) -> None:
        """The disk is full when the second shard is to be written; a path that fails pyarrow would remove."""
        if "part-000001" not in path.name:
            return written(table, path, **keywords)
        with open("/dev/full", "wb", buffering=0) as file:
            written(table, file, **keywords)

    monkeypatch.setattr(shards.pq, "write_table", full)
    capsys.readouterr()
    assert type_in("embed", embed, [*words, f"out={tmp_path}/full"], monkeypatch) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in told
    assert "part-000001.parquet" in told
    assert [path.name for path in (tmp_path / "full").glob("*part*")] == ["part-000000.parquet"]
    monkeypatch.setattr(shards.pq, "write_table", written)
    assert type_in("embed", embed, [*words, f"out={tmp_path}/full"], monkeypatch) == 0
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "full").iterdir()} == expected


@pytest.mark.slow
def test_two_processes_make_the_gallery_of_one(ckpt: Path, gallery: Path, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    words = [f"ckpt={ckpt}", f"images={tmp_path}/crops", f"out={tmp_path}/two", NAME]
    line = [sys.executable, "-m", "mpanet_pl.embed", *words, "trainer=ddp_cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(line, check=True, timeout=200, env=environment, cwd=tmp_path)
    shards = {path.name: path.read_bytes() for path in gallery.glob("*.parquet")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "two").glob("*.parquet")} == shards


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_bytes(
    ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal
    import subprocess
    import sys
    import time

    draw_crops(tmp_path / "crops", 400)
    words = [f"ckpt={ckpt}", f"images={tmp_path}/crops", NAME, "shard_size=16", "trainer=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "mpanet_pl.embed", *words]
    assert type_in("embed", embed, [*words, f"out={tmp_path}/whole"], monkeypatch) == 0
    killed = tmp_path / "killed"
    for count in (1, 9):
        process = subprocess.Popen([*line, f"out={killed}"], env=environment)
        while len(list(killed.glob("part-*"))) < count:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(list(killed.glob("part-*"))) < 25, "killed too late"
    assert type_in("embed", embed, [*words, f"out={killed}"], monkeypatch) == 0
    expected = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == expected
