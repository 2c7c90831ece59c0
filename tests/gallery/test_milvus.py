"""Milvus embedded, for real: the exact search's answers with every filter, forgetting, and its faults as sentences."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from checkpoints import draw_crops
from commands import type_in
from gallery.made import FILTERS, made

from mpanet_pl.errors import RunStopped, UserError
from mpanet_pl.forget import forget as forget_door
from mpanet_pl.gallery import milvus
from mpanet_pl.gallery.copies import copies_of, write_copies
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.embedding import embed_images
from mpanet_pl.gallery.milvus import Collection, connected, copy_at, filled
from mpanet_pl.gallery.searching import Filter, Queries, queries_of, search, table_of
from mpanet_pl.gallery.store import Gallery
from mpanet_pl.search import search as search_door

pytestmark = pytest.mark.filterwarnings("ignore")  # pymilvus' own


@pytest.fixture(scope="module")
def queries(gallery: Gallery) -> Queries:
    return queries_of(gallery, gallery)


def test_the_command_answers_from_a_file(
    ckpt: Path, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_images(embedder, draw_crops(tmp_path / "crops", 6), tmp_path / "g", name=r"(?P<camera>\d+)_")
    words = [f"gallery={tmp_path}/g", f"queries={tmp_path}/crops", "k=3", "device=cpu"]
    uri = f"uri={tmp_path}/people.db"
    assert type_in("search", search_door, [*words, f"out={tmp_path}/exact"], monkeypatch) == 0
    assert type_in("search", search_door, [*words, f"out={tmp_path}/milvus", "engine=milvus", uri], monkeypatch) == 0
    exact, theirs = (pq.read_table(tmp_path / name / "results.parquet") for name in ("exact", "milvus"))
    assert theirs.drop("score").equals(exact.drop("score"))
    assert type_in("search", search_door, [*words, f"out={tmp_path}/no", "engine=milvus"], monkeypatch) == 2


def test_who_is_forgotten_leaves_every_copy_that_the_gallery_knows(
    ckpt: Path, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    embed_images(embedder, draw_crops(tmp_path / "crops", 12), tmp_path / "g", name=r"(?P<camera>\d+)_(?P<time>\d+)")
    gallery, file, dead = Gallery(tmp_path / "g"), tmp_path / "people.db", copy_at("http://127.0.0.1:1", "a", "FLAT")
    with filled(gallery, copy_at(str(file), "a", "FLAT")) as collection:
        assert len(collection) == 12

    def left() -> list[str]:
        """Whose rows Milvus holds, whatever the gallery says of it."""
        with connected(str(file)) as client:
            copy = Collection(client, gallery, name="a")
            return sorted(row["path"][0] for row in client.query(copy.name, filter="", limit=99))

    words = [f"gallery={tmp_path}/g"]
    assert type_in("forget", forget_door, [*words, "camera=[02]"], monkeypatch) == 0
    assert left() == ["1"] * 4 + ["3"] * 4
    write_copies(gallery.folder, [*copies_of(gallery.folder), dead])
    assert type_in("forget", forget_door, [*words, "camera=[3]"], monkeypatch) == 1
    assert "http://127.0.0.1:1 still holds them: Milvus at" in capsys.readouterr().err
    assert left() == ["1"] * 4
    assert [copy.owed for copy in copies_of(gallery.folder)] == [[{"camera": ["3"]}], []]
    with filled(Gallery(tmp_path / "g"), copy_at(str(file), "another", "FLAT")):
        pass
    file.rename(tmp_path / "moved.db")
    assert type_in("forget", forget_door, [*words, "before=1010"], monkeypatch) == 1
    assert "people.db still holds them: it is not there any more" in capsys.readouterr().err
    write_copies(gallery.folder, [copy for copy in copies_of(gallery.folder) if copy.uri == dead.uri])
    later = copies_of(gallery.folder)[0]._replace(uri=str(tmp_path / "later.db"))
    write_copies(gallery.folder, [later])  # the server answers again
    with filled(Gallery(tmp_path / "g"), later._replace(owed=())) as collection:
        assert len(collection) == 3
        assert [copy.owed for copy in copies_of(gallery.folder)] == [[]]
    (gallery.folder / "copies.json").write_text("[{")
    assert type_in("forget", forget_door, [*words, "camera=[1]"], monkeypatch) == 2
    assert len(Gallery(tmp_path / "g")) == 3


@pytest.fixture(scope="module")
def stored(gallery: Gallery) -> Iterator[Collection]:
    with connected(str(gallery.folder.parent / "people.db")) as client:
        collection = Collection(client, gallery, name="people")
        milvus.BYTES_AT_ONCE = 4 * 8 * 7  # seven rows
        assert collection.fill() == 60
        assert collection.fill() == 0
        yield collection


@pytest.mark.parametrize("only", FILTERS, ids=str)
def test_it_answers_as_the_exact_search_does(
    stored: Collection, gallery: Gallery, queries: Queries, only: Filter
) -> None:
    exact = table_of(gallery, queries, search(gallery, queries, k=5, only=only))
    theirs = stored.search(queries, k=5, only=only)
    assert theirs.schema == exact.schema
    for name in exact.column_names:
        if name == "score":
            np.testing.assert_allclose(theirs[name].to_numpy(), exact[name].to_numpy(), atol=1e-6)
        else:
            assert theirs[name].to_pylist() == exact[name].to_pylist()


@pytest.mark.parametrize("index", ["HNSW", "IVF_FLAT"])
def test_other_indexes_find_nearly_all(gallery: Gallery, queries: Queries, stored: Collection, index: str) -> None:
    collection = Collection(stored.client, gallery, name=f"by_{index}", index=index)
    collection.fill()
    exact = set(zip(*stored.search(queries, k=5).select(["query", "path"]).to_pydict().values(), strict=True))
    found = set(zip(*collection.search(queries, k=5).select(["query", "path"]).to_pydict().values(), strict=True))
    assert len(exact & found) >= 0.9 * len(exact)


def test_who_is_forgotten_does_not_answer(gallery: Gallery, queries: Queries, stored: Collection) -> None:
    collection = Collection(stored.client, gallery, name="forgetful")
    collection.fill()
    table = gallery.columns("camera", "time").to_pylist()
    expected = sum(row["camera"] == "1" and row["time"] is not None and row["time"] < 50 for row in table)
    assert collection.forget(camera=["1"], before=50) == expected > 0
    assert collection.forget(path=["0.png", 'no "such" path']) == 1
    assert "0.png" not in collection.search(queries, k=59)["path"].to_pylist()
    with pytest.raises(UserError, match="Say whom"):
        collection.forget()


def test_mistakes_and_faults_are_sentences(
    gallery: Gallery, queries: Queries, stored: Collection, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="index is one of FLAT"):
        Collection(stored.client, gallery, name="odd", index="DISKANN")
    other = made(tmp_path / "other", 3)
    other.record["checkpoint"] = "another"
    assert len(Collection(stored.client, other, name="people")) == 0  # never among another network's vectors
    with pytest.raises(UserError, match="letters, digits"):
        Collection(stored.client, gallery, name="a-b")
    with pytest.raises(UserError, match="k is at least 1"):
        stored.search(queries, k=20_000)
    with pytest.raises(RunStopped, match=r"Milvus at http://127\.0\.0\.1:1 does not"), connected("http://127.0.0.1:1"):
        pass


@pytest.mark.slow
def test_a_second_process_is_told(stored: Collection, gallery: Gallery) -> None:
    uri = str(gallery.folder.parent / "people.db")
    code = f"from mpanet_pl.gallery.milvus import connected\nwith connected({uri!r}): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "another process has it open" in done.stderr
