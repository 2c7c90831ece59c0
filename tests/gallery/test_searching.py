"""The exact search against a loop from the definition, with every filter, whatever the shards and blocks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import draw_crops, save_checkpoint
from gallery.made import FILTERS, D, made

from mpanet_pl.errors import UserError
from mpanet_pl.gallery import searching, shards
from mpanet_pl.gallery.building import embed_images
from mpanet_pl.gallery.embedder import Embedder, load
from mpanet_pl.gallery.searching import NOBODY, Filter, Queries, embedder_of, open_queries, search, table_of
from mpanet_pl.gallery.store import Gallery


def by_definition(gallery: Gallery, queries: Queries, k: int, only: Filter) -> list[list[int]]:
    table = gallery.rows(np.arange(len(gallery))).to_pylist()
    vectors = np.concatenate([block.vectors for block in gallery.blocks()]).astype(np.float32)
    answers = []
    for query, vector in zip(queries.columns.to_pylist(), queries.vectors.numpy(), strict=True):
        allowed = []
        for number, row in enumerate(table):
            checks = [
                f"/crops/{row['path']}" != query["path"],
                not only.cameras or row["camera"] in only.cameras,
                not only.not_cameras or (row["camera"] is not None and row["camera"] not in only.not_cameras),
                only.modality is None or row["modality"] == only.modality,
                only.after is None or (row["time"] is not None and row["time"] >= only.after),
                only.before is None or (row["time"] is not None and row["time"] <= only.before),
                not only.other_camera
                or (None not in (row["camera"], query["camera"]) and row["camera"] != query["camera"]),
                only.within is None
                or (None not in (row["time"], query["time"]) and abs(row["time"] - query["time"]) <= only.within),
            ]
            if all(checks):
                allowed.append((-float(vector @ vectors[number]), number))
        answers.append([number for _, number in sorted(allowed)[:k]])
    return answers


@pytest.mark.parametrize("only", FILTERS, ids=str)
def test_the_search_is_its_definition(gallery: Gallery, only: Filter, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = searching.queries_of(gallery, gallery)  # each is in the gallery itself
    expected = by_definition(gallery, queries, 7, only)
    for at_once in (2**24, 50):
        monkeypatch.setattr(searching, "SIMILARITIES_AT_ONCE", at_once)
        hits = search(gallery, queries, k=7, only=only)
        assert [[row for row in rows if row != NOBODY] for rows in hits.rows.tolist()] == expected
        assert (np.isneginf(hits.scores) == (hits.rows == NOBODY)).all()


def test_a_gallery_of_float16_is_multiplied_in_float32(tmp_path: Path) -> None:
    """Its vectors are rounded once, its products not: rows whose cosines differ by less than float16 can say keep their
    order."""
    gallery = made(tmp_path / "half", 200, dtype="float16")
    stored = np.concatenate([block.vectors for block in gallery.blocks()])
    assert stored.dtype == np.float16
    vectors = torch.nn.functional.normalize(torch.randn(20, D, generator=torch.Generator().manual_seed(0)))
    queries = Queries(searching.queries_of(gallery, gallery).columns.slice(0, 20), vectors)
    hits = search(gallery, queries, k=50)
    exact = vectors.numpy().astype(np.float64) @ stored.astype(np.float64).T
    exact[np.arange(20), np.arange(20)] = -np.inf  # a row's own image
    assert hits.rows.tolist() == (-exact).argsort(axis=1)[:, :50].tolist()
    assert np.abs(hits.scores - -np.sort(-exact, axis=1)[:, :50]).max() < 1e-6
    coarse = vectors.numpy().astype(np.float16) @ stored.T
    coarse[np.arange(20), np.arange(20)] = -np.inf
    assert hits.rows.tolist() != (-coarse).argsort(axis=1, kind="stable")[:, :50].tolist()


@pytest.mark.parametrize("width", [3, 500, 641])
def test_the_largest_are_found_by_their_groups(width: int) -> None:
    values = torch.randn(20, width, generator=torch.Generator().manual_seed(0))
    found, places = searching.largest(values, 3)
    assert torch.equal(found, values.sort(1, descending=True).values[:, :3])
    assert torch.equal(values.gather(1, places), found)


def test_shards_blocks_and_rounding_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(tmp_path / "one", 50, shards=1)
    queries = searching.queries_of(one, made(tmp_path / "queries", 9, seed=1))
    expected = search(one, queries, k=60)
    assert (expected.rows[:, 50:] == NOBODY).all()
    monkeypatch.setattr(shards, "BLOCK_BYTES", 7 * 4 * D)
    many = search(made(tmp_path / "many", 50, shards=4), queries, k=60)
    np.testing.assert_array_equal(many.rows, expected.rows)
    np.testing.assert_allclose(many.scores, expected.scores, atol=1e-6)
    half = search(made(tmp_path / "half", 50, dtype="float16"), queries, k=60)
    finite = np.isfinite(expected.scores)
    np.testing.assert_allclose(half.scores[finite], expected.scores[finite], atol=2e-3)


def test_a_crop_finds_itself_elsewhere_and_its_table_says_whom(ckpt: Path, embedder: Embedder, tmp_path: Path) -> None:
    crops = draw_crops(tmp_path / "crops", 9)
    embed_images(embedder, crops, tmp_path / "g", name=r"(?P<camera>\d+)_(?P<time>\d+)")
    copy = tmp_path / "copy.png"
    copy.write_bytes((crops / "2_1010.png").read_bytes())
    gallery = Gallery(tmp_path / "g")
    with open_queries(gallery, copy, device="cpu") as queries:
        table = table_of(gallery, queries, search(gallery, queries, k=3)).to_pylist()
    assert [row["place"] for row in table] == [1, 2, 3]
    assert (table[0]["path"], table[0]["camera"], table[0]["time"]) == ("2_1010.png", "2", 1010.0)
    assert table[0]["score"] == pytest.approx(1, abs=1e-5)
    assert table[0]["query"] == str(copy)
    with open_queries(gallery, crops / "2_1010.png", device="cpu") as queries:
        table = table_of(gallery, queries, search(gallery, queries, k=20))
    assert len(table) == 8
    assert "2_1010.png" not in table["path"].to_pylist()
    with open_queries(gallery, crops, group="camera", name=r"(?P<camera>\d)", device="cpu") as queries:
        assert len(queries) == 3


def test_what_cannot_be_compared_is_refused(embedder: Embedder, gallery: Gallery, tmp_path: Path) -> None:
    embed_images(embedder, draw_crops(tmp_path / "crops", 3), tmp_path / "g")
    there = Gallery(tmp_path / "g")
    other = save_checkpoint(tmp_path / "other.ckpt", seed=1)
    with pytest.raises(UserError, match="was not made by"):
        embedder_of(there, ckpt=other)
    with pytest.raises(UserError, match=r"gone\.ckpt .* add ckpt=PATH"):
        embedder_of(gallery)
    with pytest.raises(UserError, match="differ in checkpoint"):
        searching.queries_of(gallery, there)
    with pytest.raises(UserError, match="vectors of 8, the queries 3"):
        search(gallery, Queries(gallery.rows(np.arange(1)), torch.ones(1, 3)))
    (tmp_path / "broken.png").write_bytes(b"no")
    with (
        pytest.raises(UserError, match=r"1 queries cannot be read: broken\.png"),
        open_queries(there, tmp_path / "broken.png"),
    ):
        pass
    with pytest.raises(UserError, match="modality"):
        Filter(modality="radar")


def test_a_released_checkpoint_searches_with_its_size(tmp_path: Path) -> None:
    from mpanet_pl.official import to_official

    ckpt = save_checkpoint(tmp_path / "whole.ckpt", trunk="resnet18")
    torch.save(to_official(torch.load(ckpt, weights_only=True)["state_dict"]), tmp_path / "released.pth")
    released = load(tmp_path / "released.pth", height=32, width=16, device="cpu")
    embed_images(released, draw_crops(tmp_path / "crops", 3), tmp_path / "g")
    assert embedder_of(Gallery(tmp_path / "g"), device="cpu").record == released.record
