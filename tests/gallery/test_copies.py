"""What a gallery knows of its copies, without a Milvus: names, debts, and what became of each."""

from pathlib import Path

import pytest
from checkpoints import draw_crops

from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.copies import Copy, copies_of, copy_for, replace_copy, write_copies
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.store import Gallery

SERVER = Copy("http://milvus.example", "people", "FLAT")


@pytest.fixture
def gallery(embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    embed_images(embedder, draw_crops(tmp_path / "crops", 2), tmp_path / "people")
    return Gallery(tmp_path / "people")


def test_a_copy_is_gone_with_its_file_and_a_server_never() -> None:
    assert Copy("/nowhere/rows.db", "people", "FLAT").gone
    assert not SERVER.gone
    assert not Copy(__file__, "people", "FLAT").gone


def test_a_new_copy_owes_nothing_and_an_old_one_stays_as_it_is(
    gallery: Gallery, embedder: Embedder, tmp_path: Path
) -> None:
    made = copy_for(gallery, SERVER._replace(owed=[{"path": ["somebody else's"]}]))
    assert (made.owed, made.folder, made.own) == ((), str(gallery.folder.absolute()), True)
    assert [list(copy.owed) for copy in copies_of(gallery.folder)] == [[]]
    assert not made._replace(name="another").own, "the seal is of the name, too"
    replace_copy(gallery.folder, made, made._replace(owed=[{"path": ["1.png"]}]))
    again = copy_for(gallery, SERVER)
    assert (again.name, again.owed) == (made.name, [{"path": ["1.png"]}])
    embed_images(embedder, tmp_path / "crops", tmp_path / "others")
    assert copy_for(Gallery(tmp_path / "others"), SERVER).name != made.name, "of another folder, another collection"


def test_what_became_of_one_copy_leaves_the_others(tmp_path: Path) -> None:
    copies = [SERVER._replace(name=name, owed=[{"path": [name]}]) for name in ("one", "two", "three")]
    write_copies(tmp_path, copies)
    replace_copy(tmp_path, copies[1], copies[1]._replace(owed=[]))
    assert {copy.name: len(copy.owed) for copy in copies_of(tmp_path)} == {"one": 1, "two": 0, "three": 1}
    replace_copy(tmp_path, copies[0], None)
    assert {copy.name for copy in copies_of(tmp_path)} == {"two", "three"}
