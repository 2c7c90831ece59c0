"""Who is forgotten is nowhere: not in shards, footers, lists, links or interrupted commands; and nobody by mistake."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from checkpoints import draw_crops
from commands import type_in

from mpanet_pl.errors import UserError
from mpanet_pl.forget import forget as door
from mpanet_pl.gallery import generations
from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.copies import Copy, copies_of, note_answers, write_copies
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.forgetting import forget, moment, resembling
from mpanet_pl.gallery.store import Gallery
from mpanet_pl.search import search as search_door

NAME = r"(?P<camera>\d+)_(?P<time>\d+)"


@pytest.fixture
def people(embedder: Embedder, tmp_path: Path) -> Path:
    """Twelve rows in three shards: cameras 1 to 3, times 1000, 1010 …"""
    draw_crops(tmp_path / "crops", 12)
    (tmp_path / "crops/3_0.png").write_bytes(b"broken")
    embed_images(embedder, tmp_path / "crops", tmp_path / "people", name=NAME, shard_size=5)
    return tmp_path / "people"


def test_who_is_forgotten_is_nowhere_and_the_others_stay(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {row: (table, vector) for row, table, vector in _rows(people)}
    untouched = (people / "part-000000.parquet").read_bytes()
    done = forget(people, camera=["3"], before=1060)
    assert (done.rows, done.skipped, sorted(done.paths)) == (2, 1, ["3_1020.png", "3_1050.png"])
    np.testing.assert_array_equal(done.vectors, [before[path][1] for path in done.paths])
    left = {row: (table, vector) for row, table, vector in _rows(people)}
    assert set(before) - set(left) == {"3_1020.png", "3_1050.png"}
    for row, (table, vector) in left.items():
        assert table == before[row][0]
        np.testing.assert_array_equal(vector, before[row][1])
    assert (people / "part-000000.parquet").read_bytes() == untouched
    for name in (b"3_1020", b"3_1050", b"3_0.png"):  # the last could not be read, and stood in a footer and a list
        assert all(name not in shard.read_bytes() for shard in people.iterdir() if shard.is_file())
    assert Gallery(people).skipped() == []
    assert type_in("forget", door, [f"gallery={people}", "path=[1_1000.png]"], monkeypatch) == 0
    assert len(Gallery(people)) == 9
    assert type_in("forget", door, [f"gallery={people}", "camera=[1,2,3]"], monkeypatch) == 0
    assert len(Gallery(people)) == 0
    assert not list(people.glob("part-*"))


def test_vectors_of_those_who_stay_are_not_read(people: Path) -> None:
    """A shard from which nobody leaves may be of any size: here its vectors are damaged."""
    shard = Gallery(people).shards[0]
    content, vector = shard.read_bytes(), Gallery(people).vectors([2])[0].tobytes()
    assert vector in content
    shard.write_bytes(content.replace(vector, bytes(len(vector))))
    with pytest.raises(UserError, match="is damaged"):
        Gallery(people).vectors([2])
    last = _names(people)[-1]
    assert forget(people, path=[last]).paths == (last,)


def test_what_could_not_be_read_is_asked_for_like_a_row(people: Path) -> None:
    """A shard whose rows are all gone keeps what stands in its list; a camera is a number, however it is written."""
    rows = forget(people, path=[path for path, _, _ in _rows(people)])
    assert rows.rows == 12
    assert [image.path for image in Gallery(people).skipped()] == ["3_0.png"]
    done = forget(people, camera=["03"])
    assert (done.rows, done.skipped, len(done.vectors), done.paths) == (0, 1, 0, ())
    assert Gallery(people).skipped() == []
    assert not list(people.glob("part-*"))


def test_a_second_request_adds_to_what_copies_owe(people: Path) -> None:
    """A copy that could not be reached meanwhile has to forget both."""
    places = [Copy(f"http://{name}.example", "people", "FLAT", name=name) for name in ("one", "other")]
    write_copies(people, [places[0], places[1]._replace(owed=[{"path": ["before.png"]}])])
    for path in ("1_1000.png", "3_1020.png"):
        forget(people, path=[path])
    owed = [[name for asked in copy.owed for name in asked["path"]] for copy in copies_of(people)]
    assert owed == [["1_1000.png", "3_1020.png"], ["before.png", "1_1000.png", "3_1020.png"]]


def _names(people: Path) -> list[str]:
    return list(Gallery(people).columns("path")["path"].to_pylist())


def _rows(people: Path) -> list[tuple[str, dict, np.ndarray]]:
    gallery = Gallery(people)
    table = gallery.rows(np.arange(len(gallery))).to_pylist()
    return [(row["path"], row, gallery.vectors([number])[0]) for number, row in enumerate(table)]


def test_nobody_is_forgotten_by_mistake(people: Path) -> None:
    with pytest.raises(UserError, match="Say whom to forget"):
        forget(people)
    with pytest.raises(UserError, match=r"nothing was removed\. There is no path 1_1001\.png; near it: 1_10"):
        forget(people, path=["1_1001.png"])
    with pytest.raises(UserError, match="There is no identity 7"):
        forget(people, identity=["7"])
    with pytest.raises(UserError, match="nothing was removed"):
        forget(people, camera=["1"], before=3)
    assert len(Gallery(people)) == 12
    (people / "plan.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="not finished"):
        forget(people, camera=["1"])


def test_a_path_may_be_written_as_the_shell_completes_it(people: Path) -> None:
    root = people.parent / "crops"
    done = forget(people, path=[f"{root}/1_1000.png", "./2_1010.png", "crops/../3_1020.png", "nobody.png"])
    assert sorted(done.paths) == ["1_1000.png", "2_1010.png", "3_1020.png"]
    report = done.report(Gallery(people))
    assert "No row had path nobody.png." in report
    assert "Rows removed: 3" in report
    assert f"3 of their image files still lie in {root}" in report


def test_an_interrupted_request_is_finished_by_the_next(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed once the list is written and before the old shards are gone; and killed before it is written."""
    kept = sorted(path.name for path in people.glob("part-*"))
    for killed in ("sweep", "commit"):
        with monkeypatch.context() as patch:

            def stop(*arguments: object) -> None:
                raise KeyboardInterrupt

            patch.setattr(generations, killed, stop)
            with pytest.raises(KeyboardInterrupt):
                forget(people, path=["1_1000.png" if killed == "sweep" else "2_1010.png"])
    assert len(Gallery(people)) == 11
    assert len(list(people.glob("part-*"))) == len(kept) + 1
    forget(people, path=["2_1010.png"])
    assert all(b"1_1000" not in path.read_bytes() for path in people.glob("part-*"))
    assert len(list(people.glob("part-*"))) == len(kept)


def test_rows_do_not_stay_where_a_link_leads(people: Path, tmp_path: Path) -> None:
    shard = Gallery(people).shards[0]
    shard.rename(tmp_path / "elsewhere.parquet")
    shard.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(UserError, match=r"is a symbolic link to .*elsewhere\.parquet"):
        forget(people, path=["1_1000.png"])
    assert len(Gallery(people)) == 12
    shard.unlink()
    (tmp_path / "elsewhere.parquet").rename(shard)
    os.link(shard, tmp_path / "backup")
    assert "a hard link" in forget(people, path=["1_1000.png"]).report(Gallery(people))


def test_by_age_by_list_and_by_likeness(
    embedder: Embedder,
    people: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gallery = Gallery(people)
    with pytest.raises(UserError, match="its times are no dates"):
        moment(gallery, "30d")
    now = int(time.time())
    days = tmp_path / "days"
    draw_crops(days, 2)
    (days / "1_1000.png").rename(days / f"1_{now - 40 * 86_400}.png")
    (days / "2_1010.png").rename(days / f"2_{now - 86_400}.png")
    embed_images(embedder, days, tmp_path / "dated", name=NAME)
    assert abs(moment(Gallery(tmp_path / "dated"), "30d") - (now - 30 * 86_400)) < 60
    for age in ("soon", "30", "d", "1e3d"):
        with pytest.raises(UserError, match="older_than is a number and a unit"):
            moment(Gallery(tmp_path / "dated"), age)
    words = [f"gallery={tmp_path}/dated", "older_than=30d", f"report={tmp_path}/report.txt"]
    assert type_in("forget", door, words, monkeypatch) == 0
    assert [row[0] for row in _rows(tmp_path / "dated")] == [f"2_{now - 86_400}.png"]
    assert "Rows removed: 1" in (tmp_path / "report.txt").read_text()
    (tmp_path / "who.txt").write_text("1_1000.png\n./2_1010.png\n")
    assert type_in("forget", door, [f"gallery={people}", f"path_list={tmp_path}/who.txt"], monkeypatch) == 0
    assert len(Gallery(people)) == 10
    vector = embedder.embed([tmp_path / "crops/3_1020.png"])
    scores = {path: float(vector[0].numpy() @ other) for path, _, other in _rows(people)}
    limit = sorted(scores.values())[-3] - 1e-6
    assert sorted(resembling(Gallery(people), vector, limit)) == sorted(sorted(scores, key=scores.get)[-3:])
    words = [f"gallery={people}", f"like={tmp_path}/crops/3_1020.png", "device=cpu"]
    assert type_in("forget", door, words, monkeypatch) == 2
    assert "has no threshold of its own" in capsys.readouterr().err
    assert type_in("forget", door, [*words, "threshold=0.99999"], monkeypatch) == 0
    assert "3_1020.png" not in [row[0] for row in _rows(people)]


def test_answers_that_show_them_are_listed(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"gallery={people}", f"queries={tmp_path}/crops/1_1000.png", "k=3", "device=cpu"]
    assert type_in("search", search_door, [*words, f"out={tmp_path}/one"], monkeypatch) == 0
    note_answers(people, tmp_path / "moved away")
    first = (tmp_path / "one/results.csv").read_text().splitlines()[1].split(",")
    path = next(cell.strip('"') for cell in first[1:] if cell.strip('"').endswith(".png"))
    assert forget(people, path=[path]).answers == (tmp_path / "one",)
    assert forget(people, path=["1_1000.png"]).answers == ()
