"""A gallery is a function of its images: killed, shared among ranks, or made in two calls, it holds the same bytes."""

import csv
import json
import shutil
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest
import torch
from checkpoints import draw_crops, save_checkpoint

from mpanet_pl.errors import UserError
from mpanet_pl.gallery import building
from mpanet_pl.gallery.building import Ranks, embed_images
from mpanet_pl.gallery.embedder import Embedder, load
from mpanet_pl.gallery.projection import learn
from mpanet_pl.gallery.store import Gallery

NAME = r"(?P<camera>\d+)_(?P<time>\d+)"


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 crops, one of them broken."""
    folder = draw_crops(tmp_path_factory.mktemp("crops") / "crops", 23)
    (folder / "2_1010.png").write_bytes(b"broken")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def vectors(gallery: Gallery) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([block.vectors for block in gallery.blocks()]).astype(np.float32))


def test_a_gallery_holds_each_image_with_what_its_name_says(embedder: Embedder, crops: Path, tmp_path: Path) -> None:
    done = embed_images(embedder, crops, tmp_path / "g", name=NAME, shard_size=8, batch_size=3, workers=2)
    gallery = Gallery(tmp_path / "g")
    table = gallery.rows(np.arange(len(gallery)))
    names = sorted(path.name for path in crops.iterdir() if path.name != "2_1010.png")
    assert table["path"].to_pylist() == names
    assert table["camera"].to_pylist() == [name[0] for name in names]
    assert table["time"].to_pylist() == [float(name[2:6]) for name in names]
    torch.testing.assert_close(vectors(gallery), embedder.embed([crops / name for name in names]))
    torch.testing.assert_close(
        torch.from_numpy(gallery.vectors([9, 3])), embedder.embed([crops / names[row] for row in (9, 3)])
    )
    assert (done.rows, done.images, done.skipped) == (22, 23, 1)
    assert [path.name for path in gallery.shards] == [f"part-{number:06d}.parquet" for number in range(3)]
    (head, (path, reason)) = csv.reader((tmp_path / "g/skipped.csv").read_text().splitlines())
    assert (head, path) == (["path", "reason"], "2_1010.png")
    assert "it is no JPEG, PNG" in reason
    assert "synthetic" in json.loads((tmp_path / "g/record.json").read_text())["terms"]


def test_killed_shared_and_whole_are_the_same_bytes(
    embedder: Embedder, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keywords = {"name": NAME, "shard_size": 4, "batch_size": 3, "workers": 1}
    embed_images(embedder, crops, tmp_path / "whole", **keywords)

    written = building.write_shard

    def killed_at_the_third(path: Path, *rest: object) -> None:
        if path.name.endswith("2.parquet"):
            (path.parent / ".half.part").write_bytes(b"half")
            raise KeyboardInterrupt
        written(path, *rest)

    monkeypatch.setattr(building, "write_shard", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        embed_images(embedder, crops, tmp_path / "killed", **keywords)
    monkeypatch.undo()
    assert len(list((tmp_path / "killed").glob("part-*"))) == 2
    assert "not finished: 6 shards" in Gallery(tmp_path / "killed").unfinished
    embed_images(embedder, crops, tmp_path / "killed", **keywords)

    barrier = Barrier(2)
    threads = [
        Thread(target=embed_images, args=(embedder, crops, tmp_path / "shared"), kwargs={**keywords, "ranks": ranks})
        for ranks in (Ranks(0, 2, barrier.wait), Ranks(1, 2, barrier.wait))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expected = content(tmp_path / "whole")
    assert content(tmp_path / "killed") == expected
    assert content(tmp_path / "shared") == expected


def test_a_long_run_hands_its_shards_over_and_leaves_other_ranks_files(
    embedder: Embedder, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed after every shard here; another rank's half-written file is no leftover."""
    monkeypatch.setattr(building, "COMMIT_AFTER", -1)
    other, seen = tmp_path / "g/.part-000099.parquet.1.part", []
    write = building.write_shard

    def watched(path: Path, *rest: object) -> Path:
        seen.append(len(Gallery(tmp_path / "g")))
        other.write_bytes(b"half")
        written = write(path, *rest)
        assert other.exists()
        return written

    monkeypatch.setattr(building, "write_shard", watched)
    commit_finished = building.commit_finished

    def observed(folder: Path, **words: bool) -> None:
        there = other.exists()
        commit_finished(folder, **words)
        assert other.exists() or not (there and words)

    monkeypatch.setattr(building, "commit_finished", observed)
    done = embed_images(embedder, crops, tmp_path / "g", shard_size=4, batch_size=4, workers=1)
    assert seen[0] == 0
    assert 0 < seen[-1] < done.rows, "rows can be searched before the run ends"
    assert len(Gallery(tmp_path / "g")) == done.rows
    assert not other.exists(), "and at the end it is one"


def test_what_a_killed_process_had_half_written_goes_where_nothing_else_changed(
    embedder: Embedder, crops: Path, tmp_path: Path
) -> None:
    embed_images(embedder, crops, tmp_path / "g")
    half = tmp_path / "g/.part-000099.parquet.1.part"
    half.write_bytes(b"half")
    building.commit_finished(tmp_path / "g", others_write=True)
    assert half.exists()
    building.commit_finished(tmp_path / "g")
    assert not half.exists()


def test_only_what_is_new_is_embedded(embedder: Embedder, crops: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(crops, tmp_path / "crops")
    embed_images(embedder, folder, tmp_path / "g", name=NAME, shard_size=10)
    before = content(tmp_path / "g")
    draw_crops(folder / "later", 3, seed=5)
    done = embed_images(embedder, folder, tmp_path / "g", name=NAME, shard_size=10)
    assert (done.images, done.rows) == (3, 25)
    before.pop("manifest.json")
    assert content(tmp_path / "g").items() >= before.items()
    assert embed_images(embedder, folder, tmp_path / "g", name=NAME).images == 0
    elsewhere = draw_crops(tmp_path / "elsewhere", 2)
    assert embed_images(embedder, elsewhere, tmp_path / "g", name=NAME).rows == 27
    assert str(elsewhere / "1_1000.png") in Gallery(tmp_path / "g").columns("path")["path"].to_pylist()


def test_a_tracklet_is_the_mean_of_its_frames(embedder: Embedder, crops: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(crops, tmp_path / "crops")
    embed_images(embedder, folder, tmp_path / "g", name=r"(?P<camera>\d+)_", group="camera", shard_size=2, batch_size=3)
    gallery = Gallery(tmp_path / "g")
    table = gallery.columns("track", "frames", "camera", "path").to_pydict()
    assert table["track"] == ["1", "2", "3"]
    assert table["frames"] == [8, 7, 7]  # one of camera 2 is broken
    for row, track in enumerate(table["track"]):
        frames = sorted(path for path in folder.glob(f"{track}_*.png") if path.name != "2_1010.png")
        mean = torch.nn.functional.normalize(embedder.embed(frames).mean(0), dim=0)
        torch.testing.assert_close(vectors(gallery)[row], mean)
        assert table["path"][row] == frames[0].name
    again = embed_images(embedder, folder, tmp_path / "g", name=r"(?P<camera>\d+)_", group="camera")
    assert again.images == 0
    shutil.copy(folder / "1_1000.png", folder / "1_9999.png")
    grown = embed_images(embedder, folder, tmp_path / "g", name=r"(?P<camera>\d+)_", group="camera")
    assert grown.images == 9
    frames = sorted(folder.glob("1_*.png"))
    row = Gallery(tmp_path / "g").columns("track").to_pydict()["track"].index("1")
    mean = torch.nn.functional.normalize(embedder.embed(frames).mean(0), dim=0)
    torch.testing.assert_close(vectors(Gallery(tmp_path / "g"))[row], mean)


def test_small_vectors_are_those_of_the_projection(ckpt: Path, crops: Path, tmp_path: Path) -> None:
    projection = learn(torch.randn(30, 256, generator=torch.Generator().manual_seed(0)), 16)
    small = load(ckpt, device="cpu", projection=projection)
    embed_images(small, crops, tmp_path / "g", dtype="float16")
    gallery = Gallery(tmp_path / "g")
    assert gallery.projection
    assert gallery.projection.digest == projection.digest
    names = gallery.columns("path")["path"].to_pylist()
    torch.testing.assert_close(vectors(gallery), small.embed([crops / name for name in names]).half().float())


def test_strict_refuses_what_cannot_be_read(embedder: Embedder, crops: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 images cannot be read.*2_1010\.png"):
        embed_images(embedder, crops, tmp_path / "g", strict=True)
    assert embed_images(embedder, crops, tmp_path / "g").rows == 22


@pytest.mark.parametrize("words", [{"batch_size": 0}, {"shard_size": 0}, {"dtype": "int8"}])
def test_sizes_that_nothing_has_are_refused_before_there_is_a_folder(
    words: dict, embedder: Embedder, crops: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=next(iter(words))):
        embed_images(embedder, crops, tmp_path / "g", **words)
    assert not (tmp_path / "g").exists()


def test_one_image_is_a_shard_and_a_batch(embedder: Embedder, tmp_path: Path) -> None:
    embed_images(embedder, draw_crops(tmp_path / "crops", 2), tmp_path / "g", shard_size=1, batch_size=1)
    assert len(list((tmp_path / "g").glob("part-*"))) == 2


def test_another_network_cannot_continue_a_gallery(embedder: Embedder, crops: Path, tmp_path: Path) -> None:
    embed_images(embedder, crops, tmp_path / "g")
    before = content(tmp_path / "g")
    other = load(save_checkpoint(tmp_path / "other.ckpt", seed=1), device="cpu")
    for keywords in ({}, {"dtype": "float16"}):
        with pytest.raises(UserError, match="made otherwise"):
            embed_images(other, crops, tmp_path / "g", **keywords)
    with pytest.raises(UserError, match="holds other files"):
        embed_images(embedder, crops, crops)
    assert content(tmp_path / "g") == before


def test_a_damaged_shard_is_named_and_made_anew(embedder: Embedder, crops: Path, tmp_path: Path) -> None:
    embed_images(embedder, crops, tmp_path / "g", shard_size=8)
    before = content(tmp_path / "g")
    last = tmp_path / "g/part-000002.parquet"
    middle = bytearray(last.read_bytes())
    middle[len(middle) // 2] ^= 1
    for damage in (before[last.name][:-20], b"", bytes(middle)):
        last.write_bytes(damage)
        with pytest.raises(UserError, match=r"part-000002\.parquet is damaged \(..+\)"):
            vectors(Gallery(tmp_path / "g"))
    last.unlink()
    embed_images(embedder, crops, tmp_path / "g", shard_size=8)
    assert content(tmp_path / "g") == before


def test_a_shard_of_another_gallery_is_named(embedder: Embedder, crops: Path, tmp_path: Path) -> None:
    for name, dtype in (("a", "float32"), ("b", "float16")):
        embed_images(embedder, crops, tmp_path / name, dtype=dtype)
    shutil.copy(tmp_path / "b/part-000000.parquet", tmp_path / "a/part-000001.parquet")
    assert len(Gallery(tmp_path / "a")) == 22  # nobody named that file
    shutil.copy(tmp_path / "b/part-000000.parquet", tmp_path / "a/part-000000.parquet")
    with pytest.raises(UserError, match=r"part-000000\.parquet is of another gallery: it differs in dtype"):
        vectors(Gallery(tmp_path / "a"))
    with pytest.raises(UserError, match="is no gallery"):
        Gallery(crops)
