from pathlib import Path

import numpy as np
import pytest
from checkpoints import draw_crops
from commands import type_in

from mpanet_pl.errors import UserError
from mpanet_pl.forget import forget as door
from mpanet_pl.gallery.embedder import Embedder
from mpanet_pl.gallery.embedding import embed_images
from mpanet_pl.gallery.forgetting import forget
from mpanet_pl.gallery.store import Gallery

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
    assert forget(people, camera=["3"], before=1060) == 2
    left = {row: (table, vector) for row, table, vector in _rows(people)}
    assert set(before) - set(left) == {"3_1020.png", "3_1050.png"}
    for row, (table, vector) in left.items():
        assert table == before[row][0]
        np.testing.assert_array_equal(vector, before[row][1])
    assert (people / "part-000000.parquet").read_bytes() == untouched
    assert all(b"3_1020" not in shard.read_bytes() for shard in people.iterdir() if shard.is_file())
    assert Gallery(people).skipped() == []
    assert "3_0.png" not in (people / "skipped.csv").read_text()
    assert type_in("forget", door, [f"gallery={people}", "path=[1_1000.png]"], monkeypatch) == 0
    assert len(Gallery(people)) == 9
    assert type_in("forget", door, [f"gallery={people}", "camera=[1,2,3]"], monkeypatch) == 0
    assert len(Gallery(people)) == 0
    assert forget(people, identity=["7"]) == 0


def _rows(people: Path) -> list[tuple[str, dict, np.ndarray]]:
    gallery = Gallery(people)
    table = gallery.rows(np.arange(len(gallery))).to_pylist()
    return [(row["path"], row, gallery.vector(number)) for number, row in enumerate(table)]


def test_nobody_is_forgotten_by_mistake(people: Path) -> None:
    with pytest.raises(UserError, match="Say whom to forget"):
        forget(people)
    (people / "plan.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="not finished"):
        forget(people, camera=["1"])
