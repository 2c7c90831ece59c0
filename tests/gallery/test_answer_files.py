"""Answers as files: safe in a spreadsheet, and the sheet says who is right."""

import csv
import re
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from gallery.made import made
from PIL import Image

from mpanet_pl.gallery import answer_files
from mpanet_pl.gallery.answer_files import page, printed, write_answers
from mpanet_pl.gallery.searching import Queries
from mpanet_pl.gallery.shards import COLUMNS
from mpanet_pl.gallery.store import Gallery


def table(**columns: list[object]) -> pa.Table:
    count = len(next(iter(columns.values())))
    nothing = {name: pa.nulls(count, kind) for name, kind in COLUMNS.items()}
    return pa.table(nothing | {name: pa.array(values, COLUMNS[name]) for name, values in columns.items()})


def answers(found: pa.Table, query: str, known: list[bool | None]) -> pa.Table:
    count = len(found)
    front = {
        "query": pa.array([query] * count, COLUMNS["path"]),
        "place": pa.array(range(1, count + 1), pa.int32()),
        "score": pa.array([-0.25] * count, pa.float32()),
        "known": pa.array(known, pa.bool_()),
    }
    return pa.table(front | {name: found[name] for name in COLUMNS})


def test_a_spreadsheet_takes_no_text_for_a_formula(gallery: Gallery, tmp_path: Path) -> None:
    paths = ["=cmd|' /C calc'!A0", "+1.png", "-1.png", "@sum.png", "\t=1.png", " =1.png", "a=1.png", "1-2.png"]
    queries = Queries(table(path=["=query.png"]), torch.zeros(1, gallery.dimension))
    found = answers(table(path=paths), "=query.png", [None] * len(paths))
    write_answers(tmp_path / "out", gallery, queries, found)
    with (tmp_path / "out/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [f"'{path}" for path in paths[:6]] + paths[6:]
    assert {row["query"] for row in rows} == {"'=query.png"}
    assert {float(row["score"]) for row in rows} == {-0.25}
    assert pa.parquet.read_table(tmp_path / "out/results.parquet")["path"].to_pylist() == paths


def test_answers_are_replaced_and_those_of_two_searches_never_lie_side_by_side(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = Queries(table(path=["q.png"]), torch.zeros(1, gallery.dimension))
    found = answers(table(path=["a.png"]), "q.png", [None])
    for _ in range(2):
        write_answers(tmp_path / "out", gallery, queries, found)
        assert len(list((tmp_path / "out").iterdir())) == 4
    monkeypatch.setattr(answer_files, "written_aside", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_answers(tmp_path / "out", gallery, queries, found)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_terminal_gets_the_first_queries_and_how_many_there_are_besides(gallery: Gallery) -> None:
    queries = Queries(table(path=["q.png", "r.png", "s.png"]), torch.zeros(3, gallery.dimension))
    lines = printed(answers(table(path=["a.png"]), "q.png", [True]), queries, most=1).splitlines()
    assert lines[0] == "q.png"
    assert lines[1].split()[:4] == ["1", "-0.250", "known", "a.png"]
    assert lines[2:] == ["… and 2 more queries"]


def test_the_sheet_marks_right_and_wrong_where_identities_are_known(gallery: Gallery) -> None:
    queries = Queries(table(path=["q.png"], identity=["7"]), torch.zeros(1, gallery.dimension))
    found = answers(table(path=["a.png", "b.png", "c.png"], identity=["7", "8", None]), "q.png", [True, False, None])
    cards = re.findall(
        r"<li(.*?)>.*?<b>\d</b> -0.250(.*?)<br>|<li(.*?)>.*?<b>3</b> -0.250(.*?)<", page(gallery, queries, found, 9)
    )
    assert [(a or c, b or d) for a, b, c, d in cards] == [
        (' class="right"', " known"),
        (' class="wrong"', " unknown"),
        ("", ""),
    ]
    unknown = Queries(table(path=["q.png"]), torch.zeros(1, gallery.dimension))
    assert 'class="right"' not in page(gallery, unknown, found, 9)


def test_a_strangers_gallery_chooses_no_pictures_of_the_sheet(tmp_path: Path) -> None:
    """A sheet is mailed: it shows files below the gallery's root alone, whatever its rows are called."""
    (tmp_path / "root").mkdir()
    for name in ("root/a.png", "passport.png", "q.png"):
        Image.new("RGB", (8, 16), "red").save(tmp_path / name)
    gallery = made(tmp_path / "g", 3)
    gallery.record["root"] = str(tmp_path / "root")
    rows = ["a.png", "../passport.png", str(tmp_path / "passport.png")]
    query = str(tmp_path / "q.png")
    for root, shown in ((Path("/"), ["q.png", "a.png"]), (tmp_path / "root", ["a.png"])):
        queries = Queries(table(path=[query]), torch.zeros(1, 8), root)
        sheet = page(gallery, queries, answers(table(path=rows), query, [None] * 3), 9)
        assert re.findall(r'<img src="data:image/jpeg[^>]*alt="(.*?)"', sheet) == shown
