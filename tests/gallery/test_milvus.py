"""Milvus embedded, for real: the exact search's answers with every filter, forgetting, and its faults as sentences."""

import shutil
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
from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.copies import Copy, copies_of, copy_for, write_copies
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.forgetting import forget
from mpanet_pl.gallery.milvus import Collection, connected, copy_at, filled, partitions, still_in
from mpanet_pl.gallery.searching import Filter, Queries, queries_of, search, table_of
from mpanet_pl.gallery.shards import GalleryChanged, Shard
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


@pytest.mark.slow
def test_who_is_forgotten_leaves_every_copy_that_the_gallery_knows(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    embed_images(embedder, draw_crops(tmp_path / "crops", 12), tmp_path / "g", name=r"(?P<camera>\d+)_(?P<time>\d+)")
    gallery, file, dead = Gallery(tmp_path / "g"), tmp_path / "people.db", copy_at("http://127.0.0.1:1", "a", "FLAT")
    with filled(gallery, copy_at(str(file), "a", "FLAT")) as collection:
        assert len(collection) == 12
    names = gallery.columns("path")["path"].to_pylist()
    third = gallery.vectors([names.index(path) for path in ("2_1010.png", "3_1020.png")])
    assert still_in(str(file), third)

    def left() -> list[str]:
        """Whose rows Milvus holds, whatever the gallery says of it."""
        with connected(str(file)) as client:
            name = next(copy.name for copy in copies_of(gallery.folder) if copy.uri == str(file))
            rows = client.query(name, filter="", limit=99)
            return sorted(row["path"][0] for row in rows)

    words = [f"gallery={tmp_path}/g"]
    assert type_in("forget", forget_door, [*words, "camera=[02]"], monkeypatch) == 0
    assert left() == ["1"] * 4 + ["3"] * 4
    assert not still_in(str(file), third[:1])
    assert "people.db holds them no more" in capsys.readouterr().out
    unreachable = copy_for(gallery, dead)
    for number, camera in ((1, 3), (2, 1)):  # a second request adds its debt to that of the first
        path = ["3_1020.png", "1_1000.png"][number - 1]
        assert type_in("forget", forget_door, [*words, f"path=[{path}]"], monkeypatch) == 1
        assert "http://127.0.0.1:1 still holds them: Milvus at" in capsys.readouterr().err
        owed = {copy.uri: [asked["path"] for asked in copy.owed] for copy in copies_of(gallery.folder)}
        assert owed == {str(file): [], dead.uri: [["3_1020.png"], ["1_1000.png"]][:number]}
        assert left().count(str(camera)) == 3
    assert not still_in(str(file), third)
    with filled(Gallery(tmp_path / "g"), copy_at(str(file), "another", "FLAT")):
        pass
    file.rename(tmp_path / "moved.db")
    assert type_in("forget", forget_door, [*words, "before=1040"], monkeypatch) == 1
    assert "people.db still holds them: it is not there any more" in capsys.readouterr().err
    assert [copy.uri for copy in copies_of(gallery.folder)] == [unreachable.uri]
    (gallery.folder / "copies.json").write_text("[{")
    assert type_in("forget", forget_door, [*words, "camera=[1]"], monkeypatch) == 2
    assert len(Gallery(tmp_path / "g")) == 5


def test_a_strangers_list_of_copies_connects_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody's file decides where the user's token is sent."""
    made(tmp_path / "g", 12)
    trap = Copy("http://127.0.0.1:1", "a", "FLAT", [{"path": ["0.png"]}], "a_FLAT_0", str(tmp_path / "g"), "0" * 64)
    write_copies(tmp_path / "g", [trap, trap._replace(name="", uri=str(tmp_path / "file"), signed=None)])
    (tmp_path / "file").mkdir()
    asked = []
    monkeypatch.setattr(milvus, "MilvusClient", lambda *given, **keywords: asked.append(given))
    words = [f"gallery={tmp_path}/g", "path=[0.png]", "uri_token=secret"]
    assert type_in("forget", forget_door, words, monkeypatch) == 1
    assert not asked
    assert "was not filled by you on this machine, so nothing was sent there" in capsys.readouterr().err
    assert len(Gallery(tmp_path / "g")) == 11


def test_a_collection_is_known_by_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gallery made anew over the same names, one copied, one grown: each is answered from its own rows."""
    here = copy_at(str(tmp_path / "people.db"), "a", "FLAT")

    def top(gallery: Gallery) -> list[tuple[str, float]]:
        asked = queries_of(gallery, gallery)
        with filled(gallery, here) as collection:
            assert len(collection) == len(gallery)
            theirs = collection.search(asked, k=3)
        exact = table_of(gallery, asked, search(gallery, asked, k=3))
        assert theirs.drop("score").equals(exact.drop("score"))
        return exact["path"].to_pylist()

    first = top(made(tmp_path / "g", 40))
    shutil.copytree(tmp_path / "g", tmp_path / "copied")
    copies = (tmp_path / "g/copies.json").read_bytes()
    shutil.rmtree(tmp_path / "g")
    again = made(tmp_path / "g", 40, seed=1)
    (tmp_path / "g/copies.json").write_bytes(copies)
    assert top(again) != first
    assert top(Gallery(tmp_path / "copied")) == first
    names = [copies_of(tmp_path / name)[-1].name for name in ("g", "copied")]
    assert len(set(names)) == 2
    assert top(Gallery(tmp_path / "g")) != first
    fill = Collection.fill

    def overtaken(collection: Collection) -> int:
        count = fill(collection)
        forget(tmp_path / "g", path=["0.png"])
        return count

    monkeypatch.setattr(Collection, "fill", overtaken)
    with pytest.raises(GalleryChanged), filled(Gallery(tmp_path / "g"), here):
        pass


def test_only_what_is_new_is_inserted(tmp_path: Path) -> None:
    gallery = made(tmp_path / "g", 40, shards=20)
    names = partitions(gallery.manifest.shards)
    assert [len(shards) for shards in names.values()] == [8, 8, 4]
    more = partitions([*gallery.manifest.shards, Shard("part-000020.parquet", 5, "x")])
    assert len(names.keys() & more.keys()) == 2
    many = partitions([Shard(f"part-{number:06d}.parquet", 1, "x") for number in range(10_000)])
    assert len(many) <= milvus.MOST_PARTITIONS
    with connected(str(tmp_path / "people.db")) as client:
        collection = Collection(client, gallery, "few")
        assert collection.fill() == 40
        gone = gallery.vectors([39])
        assert still_in(str(tmp_path / "people.db"), gone), "the search of the files finds what is there"
        forget(tmp_path / "g", path=["39.png"])
        later = Collection(client, Gallery(tmp_path / "g"), "few")
        assert later.fill() == 7
        assert len(later) == 39
        assert not still_in(str(tmp_path / "people.db"), gone)
        part = next(iter(names))
        client.release_collection("few")
        client.drop_partition("few", part)
        client.create_partition("few", part)  # a process was killed before it had filled it
        client.load_collection("few")
        assert later.fill() == len(later) == 39


@pytest.fixture(scope="module")
def stored(gallery: Gallery) -> Iterator[Collection]:
    with connected(str(gallery.folder.parent / "people.db")) as client:
        collection = Collection(client, gallery, "people")
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


def test_a_row_is_a_query(gallery: Gallery, stored: Collection) -> None:
    row = gallery.rows(np.array([7])).to_pylist()[0]
    asked = stored.query(row["path"])
    assert asked.columns.to_pylist() == [row | {"path": str(gallery.root / row["path"])}]
    np.testing.assert_allclose(asked.vectors.numpy(), gallery.vectors([7]), rtol=1e-6)
    with pytest.raises(UserError, match="no row nobody"):
        stored.query("nobody")


@pytest.mark.parametrize("index", ["HNSW", "IVF_FLAT"])
def test_other_indexes_find_nearly_all(gallery: Gallery, queries: Queries, stored: Collection, index: str) -> None:
    collection = Collection(stored.client, gallery, name=f"by_{index}", index=index)
    collection.fill()
    exact = set(zip(*stored.search(queries, k=5).select(["query", "path"]).to_pydict().values(), strict=True))
    found = set(zip(*collection.search(queries, k=5).select(["query", "path"]).to_pydict().values(), strict=True))
    assert len(exact & found) >= 0.9 * len(exact)


def test_mistakes_and_faults_are_sentences(
    gallery: Gallery, queries: Queries, stored: Collection, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="index is one of FLAT"):
        Collection(stored.client, gallery, "odd", index="DISKANN")
    with pytest.raises(UserError, match="letters, digits"):
        Collection(stored.client, gallery, "a-b")
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
