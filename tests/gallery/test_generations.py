"""A reader has one generation whole or learns that there is another; what changed on the disk changes the gallery."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from checkpoints import draw_crops
from commands import type_in
from gallery.made import made
from gallery.served import client_of

from mpanet_pl.errors import UserError
from mpanet_pl.gallery import generations, planning, shards
from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.forgetting import forget
from mpanet_pl.gallery.generations import of_one_generation
from mpanet_pl.gallery.searching import queries_of, search, table_of
from mpanet_pl.gallery.shards import GalleryChanged
from mpanet_pl.gallery.store import Gallery
from mpanet_pl.gallery.walking import walked
from mpanet_pl.search import search as search_door

NAME = r"(?P<camera>\d+)_(?P<time>\d+)"


def told(gallery: Gallery) -> dict[str, dict]:
    return {row["path"]: row for row in gallery.rows(np.arange(len(gallery))).to_pylist()}


def vectors(gallery: Gallery) -> dict[str, bytes]:
    return {path: gallery.vectors([number])[0].tobytes() for number, path in enumerate(told(gallery))}


def close(one: bytes, other: bytes) -> None:
    np.testing.assert_allclose(np.frombuffer(one, np.float32), np.frombuffer(other, np.float32), atol=1e-5)


def test_a_search_that_meets_a_forget_names_nobody_else(tmp_path: Path) -> None:
    """Between the search and its table rows leave: the table is refused, and made again it is of those who stay."""
    folder = made(tmp_path / "g", 60).folder
    asked = queries_of(Gallery(folder), made(tmp_path / "queries", 9, seed=1))
    leaving = [["0.png", "1.png", "2.png"], ["25.png"]]

    def answer(gallery: Gallery) -> list[dict]:
        hits = search(gallery, asked, k=5)
        if leaving:
            forget(folder, path=leaving.pop(0))
        table = table_of(gallery, asked, hits).to_pylist()
        gallery.check_current()
        return table

    old = Gallery(folder)
    with pytest.raises(GalleryChanged):
        answer(old)
    assert not old.current
    table = of_one_generation(lambda: Gallery(folder), answer)
    assert not leaving
    now = vectors(Gallery(folder))
    assert len(now) == 56
    for row in table:
        query = asked.vectors[asked.columns["path"].to_pylist().index(row["query"])].numpy()
        assert row["score"] == pytest.approx(float(query @ np.frombuffer(now[row["path"]], np.float32)), abs=1e-6)


def test_a_generation_is_its_content(tmp_path: Path) -> None:
    first, same, other = made(tmp_path / "a", 20), made(tmp_path / "b", 20), made(tmp_path / "c", 20, seed=1)
    assert first.generation == same.generation != other.generation
    forget(tmp_path / "a", path=["3.png"])
    assert first.generation != Gallery(tmp_path / "a").generation
    shutil.rmtree(tmp_path / "b")
    made(tmp_path / "b", 20, seed=2)  # made anew under the same names
    with pytest.raises(GalleryChanged):
        same.columns("path")


@pytest.mark.parametrize("content", ["[", "{}", '{"shards": [["../../x.parquet", 1, "a"]]}', '{"shards": [[1]]}', "[]"])
def test_a_damaged_list_is_a_sentence(content: str, tmp_path: Path) -> None:
    made(tmp_path / "g", 6)
    (tmp_path / "g/manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        Gallery(tmp_path / "g")


@pytest.mark.parametrize(
    "change",
    [{"dimension": "x"}, {"dimension": -1}, {"root": 3}, {"root": "\0"}, {"dtype": "int7"}, {"checkpoint": None}],
)
def test_a_damaged_record_is_a_sentence(change: dict, tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", 6)
    record = {**gallery.record, **change}
    if change == {"checkpoint": None}:
        del record["checkpoint"]
    (tmp_path / "g/record.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"record\.json is damaged"):
        Gallery(tmp_path / "g")


def test_a_runs_folder_is_no_gallery(tmp_path: Path) -> None:
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    (tmp_path / "run/record.json").write_text('{"dataset": "synthetic"}')
    with pytest.raises(UserError, match=r"run is a run, not a gallery: embed ckpt=.*run/checkpoints/last\.ckpt"):
        Gallery(tmp_path / "run")


def test_what_changed_on_the_disk_changes_in_the_gallery(embedder: Embedder, tmp_path: Path) -> None:
    crops, folder = draw_crops(tmp_path / "crops", 9), tmp_path / "g"
    (crops / "2_1010.png").write_bytes(b"not yet")
    embed_images(embedder, crops, folder, shard_size=4)
    before = vectors(Gallery(folder))
    shutil.copy(crops / "1_1030.png", crops / "2_1010.png")  # repaired
    shutil.copy(crops / "2_1040.png", crops / "1_1000.png")  # replaced
    os.utime(crops / "1_1000.png", ns=(1, 1))
    (crops / "3_1020.png").unlink()
    again = embed_images(embedder, crops, folder, shard_size=4)
    assert again.images == 2
    after = vectors(Gallery(folder))
    close(after["1_1000.png"], before["2_1040.png"])
    close(after["2_1010.png"], before["1_1030.png"])
    assert after["3_1020.png"] == before["3_1020.png"]
    assert len(again.notes) == 3, "each is said once"
    notes = " ".join(again.notes)
    assert "1 rows have files that changed or are new; they are embedded anew." in notes
    assert "1 images that could not be read changed; they are tried again." in notes
    assert "not there any more and stay in the gallery (prune=true drops them): 3_1020.png" in notes
    assert Gallery(folder).skipped() == []
    pruned = embed_images(embedder, crops, folder, prune=True)
    assert "have left the gallery: 3_1020.png" in pruned.notes[0]
    assert "3_1020.png" not in vectors(Gallery(folder))
    generation = Gallery(folder).generation
    assert embed_images(embedder, crops, folder, prune=True).notes == ()
    assert Gallery(folder).generation == generation
    named = embed_images(embedder, crops, folder, name=NAME)
    assert named.images == 0
    assert "8 rows have new columns" in named.notes[0]
    assert {(row["camera"], row["time"]) for row in told(Gallery(folder)).values()} >= {("1", 1000.0), ("2", 1010.0)}
    assert vectors(Gallery(folder)) == {path: vector for path, vector in after.items() if path != "3_1020.png"}


def test_tracks_of_two_cameras_are_two_tracklets(embedder: Embedder, tmp_path: Path) -> None:
    """Trackers count from 0 in each camera."""
    crops = draw_crops(tmp_path / "crops", 8)
    names = sorted(path.name for path in crops.iterdir())
    lines = [f"{name},{number % 2},{number // 4}" for number, name in enumerate(names)]
    (tmp_path / "crops/list.csv").write_text("\n".join(["path,camera,t", *lines]))
    embed_images(embedder, crops / "list.csv", tmp_path / "g", group="t", shard_size=3)
    gallery = Gallery(tmp_path / "g")
    rows = gallery.columns("camera", "track", "frames").to_pylist()
    assert rows == [{"camera": camera, "track": track, "frames": 2} for camera in "01" for track in "01"]
    for number, row in enumerate(rows):
        known = (row["camera"], row["track"])
        frames = [name for place, name in enumerate(names) if (str(place % 2), str(place // 4)) == known]
        mean = embedder.embed([crops / name for name in frames]).mean(0)
        np.testing.assert_allclose(gallery.vectors([number])[0], (mean / mean.norm()).numpy(), atol=1e-5)
    later = [*lines[:-1], f"{names[-1]},1,9"]  # a frame of a tracklet is another's now: the other three stay
    (tmp_path / "crops/list.csv").write_text("\n".join(["path,camera,t", *later]))
    done = embed_images(embedder, crops / "list.csv", tmp_path / "g", group="t", shard_size=3)
    assert done.images == 1
    assert "1 tracklets are listed without all frames" in " ".join(done.notes)


def test_a_tracklet_that_gets_a_frame_is_embedded_anew(embedder: Embedder, tmp_path: Path) -> None:
    """Whether the new frame stands behind the others or before them; the other tracklet stays as it is."""
    crops, folder, words = tmp_path / "crops", tmp_path / "g", {"name": r"(?P<track>\d+)_", "group": "track"}
    drawn = sorted(draw_crops(tmp_path / "drawn", 7, cameras=1).iterdir())
    crops.mkdir()

    def add(name: str) -> None:
        shutil.copy(drawn.pop(0), crops / name)

    def mean(track: int) -> bytes:
        vector = embedder.embed(sorted(crops.glob(f"{track}_*"))).mean(0)
        return (vector / vector.norm()).numpy().tobytes()

    for name in ("1_5.png", "1_6.png", "2_5.png", "2_6.png"):
        add(name)
    embed_images(embedder, crops, folder, **words)
    for name, frames in (("1_7.png", 3), ("1_4.png", 4)):
        other = vectors(Gallery(folder))["2_5.png"]
        add(name)
        done = embed_images(embedder, crops, folder, **words)
        assert (done.images, done.rows, done.notes) == (
            frames,
            2,
            ("1 rows have files that changed or are new; they are embedded anew.",),
        )
        first = min(path.name for path in crops.glob("1_*"))
        assert {path: row["frames"] for path, row in told(Gallery(folder)).items()} == {first: frames, "2_5.png": 2}
        close(vectors(Gallery(folder))[first], mean(1))
        assert vectors(Gallery(folder))["2_5.png"] == other
    (tmp_path / "some.txt").write_text("crops/2_6.png\ncrops/1_9.png\n")
    add("1_9.png")  # a list that names one frame of each: both stay
    generation = Gallery(folder).generation
    done = embed_images(embedder, tmp_path / "some.txt", folder, **words)
    assert (done.images, Gallery(folder).generation) == (0, generation)
    assert "2 tracklets are listed without all frames" in done.notes[0]


def test_folders_that_are_left_out_are_said(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = draw_crops(tmp_path / "crops", 3)
    draw_crops(tmp_path / "elsewhere", 2)
    draw_crops(crops / "locked", 1)

    done = embed_images(embedder, crops, tmp_path / "g")
    assert done.rows == 4

    def locked(look: Callable[..., Any], place: Any, *given: Any, **words: Any) -> Any:
        if "locked" in os.fspath(place):
            raise PermissionError(13, "Permission denied")
        return look(place, *given, **words)

    monkeypatch.setattr(os, "scandir", partial(locked, os.scandir))
    monkeypatch.setattr(os, "stat", partial(locked, os.stat))
    (crops / "link").symlink_to(tmp_path / "elsewhere")
    (crops / "phone.heic").write_bytes(b"something")
    done = embed_images(embedder, crops, tmp_path / "g", prune=True)
    assert (done.rows, done.skipped) == (4, 1), "nobody leaves because a folder cannot be looked at"
    assert "1 symbolic links to folders were not followed" in done.notes[0]
    assert done.notes[1].startswith("1 folders cannot be read: ")
    assert "locked (Permission denied)" in done.notes[1]
    assert "phone.heic" in (tmp_path / "g/skipped.csv").read_text()


def test_small_shards_become_one(embedder: Embedder, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    for number in range(9):
        draw_crops(crops / str(number), 1, seed=number)
        embed_images(embedder, crops, tmp_path / "g", shard_size=64)
        gallery = Gallery(tmp_path / "g")  # looked at each time: the next embed would make again what a merge lost
        assert len(gallery) == number + 1
        assert len(gallery.shards) == {7: 1, 8: 2}.get(number, number + 1)
    assert [path.name for path in sorted((tmp_path / "g").glob("part-*"))] == [path.name for path in gallery.shards]
    whole = embed_images(embedder, crops, tmp_path / "whole", shard_size=64)
    assert whole.rows == 9
    one, other = vectors(gallery), vectors(Gallery(tmp_path / "whole"))
    assert one.keys() == other.keys()
    for path in one:
        close(one[path], other[path])


def test_an_unfinished_gallery_says_so_with_its_answers(
    embedder: Embedder, ckpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crops = draw_crops(tmp_path / "crops", 6)
    embed_images(embedder, crops, tmp_path / "g")
    assert Gallery(tmp_path / "g").unfinished == ""
    draw_crops(crops / "later", 4)
    with monkeypatch.context() as patch:
        patch.setattr("mpanet_pl.gallery.building.write_shard", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            embed_images(embedder, crops, tmp_path / "g")
    (tmp_path / "more").mkdir()
    shutil.copy(crops / "1_1000.png", tmp_path / "more/a.png")
    (tmp_path / "more/b.png").write_bytes(b"broken")
    words = [f"gallery={tmp_path}/g", f"queries={tmp_path}/more", f"out={tmp_path}/out", "device=cpu", "k=2"]
    assert type_in("search", search_door, words, monkeypatch) == 0
    said = capsys.readouterr().out
    assert "is not finished: 1 shards are not in these answers" in said
    assert "is not finished" in (tmp_path / "out/sheet.html").read_text()
    with client_of(tmp_path / "g", embedder) as client:
        for answer in (client.post("/search", params={"id": "1_1000.png"}), client.get("/rows"), client.get("/about")):
            assert "1 shards are not in these answers" in answer.json()["unfinished"]
    assert "1 queries cannot be read and are left out: b.png" in said
    assert "  1  1.000  1_1000.png" in said
    answers = json.loads((tmp_path / "out/results.json").read_text())
    assert answers[0]["answers"][0]["path"] == "1_1000.png"
    words[2] = f"out={tmp_path}/g"
    assert type_in("search", search_door, words, monkeypatch) == 2
    assert "is a gallery: give answers a folder of their own" in capsys.readouterr().err
    assert not (tmp_path / "g/results.csv").exists()


def test_more_paths_than_an_arrow_string_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every text column has 64-bit offsets, from the walk to the shards."""
    draw_crops(tmp_path / "crops", 3)
    from mpanet_pl.gallery.image_table import list_images

    table = list_images(tmp_path / "crops", name=NAME)
    for column in ("path", "camera", "identity", "modality", "track"):
        assert table.schema.field(column).type == pa.large_string()
    gallery = made(tmp_path / "g", 6)
    assert gallery.columns("path").schema.field("path").type == pa.large_string()
    monkeypatch.setattr("mpanet_pl.gallery.walking.AT_ONCE", 2)
    assert list_images(tmp_path / "crops", name=NAME).equals(table)
    assert walked(tmp_path / "crops", []).num_chunks == 2, "no list of all files is made on the way"


def test_the_gallery_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """0.2 had no list of shards; the first change writes one."""
    gallery = made(tmp_path / "g", 12)
    assert not (tmp_path / "g" / generations.MANIFEST).exists()
    assert len(gallery) == 12
    forget(tmp_path / "g", path=["4.png"])
    assert (tmp_path / "g" / generations.MANIFEST).exists()
    assert len(Gallery(tmp_path / "g")) == 11
    planning.commit_finished(tmp_path / "g")
    assert len(Gallery(tmp_path / "g")) == 11


def test_a_shard_that_leaves_while_it_is_opened_is_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, opened = made(tmp_path / "g", 6), shards.pq.ParquetFile

    def leaving(path: Path, **words: Any) -> Any:
        file = opened(path, **words)
        path.unlink()
        return file

    monkeypatch.setattr(shards.pq, "ParquetFile", leaving)
    with pytest.raises(GalleryChanged, match="is gone"):
        gallery.columns("path")
