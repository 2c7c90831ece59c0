"""Answers as files: a table for programs, and one page that a person looks through and mails."""

import base64
import html
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from mpanet_pl.errors import UserError
from mpanet_pl.gallery.bounded_images import thumbnail_below
from mpanet_pl.gallery.searching import Queries
from mpanet_pl.gallery.store import RECORD, Gallery
from mpanet_pl.system.files import written_aside

NAMES = ("results.parquet", "results.csv", "results.json", "sheet.html")
THUMBNAIL = (96, 192)  # at most, width and height
KNOWN = {None: "", True: " known", False: " unknown"}
CALENDAR = 1e8  # seconds since 1970 beyond which a time is a date
LAST_DATE = 2.5e11  # and of the year 9892, beyond which there is none


def write_answers(
    out: str | Path, gallery: Gallery, queries: Queries, table: pa.Table, *, sheet: int = 100, remark: str = ""
) -> None:
    """results.parquet, .csv and .json, and sheet.html with the first `sheet` queries; `remark` says who is known."""
    folder = Path(out).expanduser()
    check_out(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:  # whoever is killed now leaves no answers of two searches side by side
        (folder / name).unlink(missing_ok=True)
    with written_aside(folder / "results.parquet") as aside:
        pq.write_table(table, aside)
    with written_aside(folder / "results.csv") as aside:
        pyarrow.csv.write_csv(for_spreadsheets(dated(table)), aside)
    with written_aside(folder / "results.json") as aside:
        aside.write_text(json.dumps(_by_query(queries, dated(table)), indent=1, ensure_ascii=False) + "\n", "utf-8")
    with written_aside(folder / "sheet.html") as aside:
        aside.write_text(page(gallery, queries, table, sheet, remark), encoding="utf-8")


def check_out(folder: Path) -> None:
    if (folder / RECORD).exists():
        raise UserError(f"out={folder} is a gallery: give answers a folder of their own.")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"out={folder} is a file: give answers a folder.")


def printed(table: pa.Table, queries: Queries, most: int = 10, places: int = 5) -> str:
    """The first answers of the first queries, a line each."""
    lines = []
    for one in _by_query(queries, table)[:most]:
        lines.append(str(one["query"]))
        for row in one["answers"][:places]:
            known = KNOWN[row["known"]]
            details = ", ".join(_details(row))
            lines.append(
                f"  {row['place']:>2}  {row['score']:.3f}{known}  {row['path']}{'  ' * bool(details)}{details}"
            )
        if not one["answers"]:
            lines.append("  nobody may answer")
    if len(queries) > most:
        lines.append(f"… and {len(queries) - most} more queries")
    return "\n".join(lines)


def dated(table: pa.Table) -> pa.Table:
    """With a column `date` beside `time`, null where seconds are no date.

    >>> dated(pa.table({"time": [1010.0, 1769817601.5, None]}))["date"].to_pylist()
    [None, '2026-01-31T00:00:01.500Z', None]
    """
    seconds = table["time"].cast(pa.float64())
    is_date = pc.and_(pc.greater_equal(seconds, CALENDAR), pc.less(seconds, LAST_DATE))
    seconds = pc.if_else(is_date, seconds, None)
    moments = pc.cast(pc.round(pc.multiply(seconds, 1000)), pa.int64(), safe=False).cast(pa.timestamp("ms"))
    date = pc.if_else(is_date, pc.strftime(moments, format="%Y-%m-%dT%H:%M:%SZ"), None)
    return table.add_column(table.schema.get_field_index("time") + 1, "date", date)


def _by_query(queries: Queries, table: pa.Table) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = {path: [] for path in queries.columns["path"].to_pylist()}
    for row in table.to_pylist():
        found[row.pop("query")].append(row)
    return [{"query": path, "answers": answers} for path, answers in found.items()]


def for_spreadsheets(table: pa.Table) -> pa.Table:
    """Texts that a spreadsheet would take for a formula begin with an apostrophe.

    >>> for_spreadsheets(pa.table({"path": ["=cmd|x", "@a", "1.png"], "score": [-1.0, 0, 1]})).to_pydict()
    {'path': ["'=cmd|x", "'@a", '1.png'], 'score': [-1.0, 0.0, 1.0]}
    """
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            texts = table[field.name]
            risky = pc.match_substring_regex(texts, r"^\s*[=+\-@\t\r\n]")
            quoted = pc.binary_join_element_wise(pa.scalar("'", field.type), texts, pa.scalar("", field.type))
            table = table.set_column(place, field, pc.if_else(risky, quoted, texts))
    return table


def page(gallery: Gallery, queries: Queries, table: pa.Table, most: int, remark: str = "") -> str:
    shown = queries.columns.slice(0, most).to_pylist()
    answers = {query: list(rows) for query, rows in groupby(table.to_pylist(), key=lambda row: row["query"])}
    sections = [
        _section(number, len(shown), query, answers.get(query["path"], []), queries.root, gallery.root)
        for number, query in enumerate(shown, start=1)
    ]
    left_out = len(queries) - len(shown)
    chosen = f"the first {len(shown)} of {len(queries)} queries" if left_out else f"all {len(shown)} queries"
    trained_on = html.escape(gallery.record["trained_on"])
    about = (
        f"{chosen} against {len(gallery)} rows; cosine similarity; network trained on {trained_on}, whose terms apply"
        f"{'; ' * bool(remark)}{html.escape(remark)}"
    )
    template = Template((Path(__file__).parent / "sheet.html").read_text(encoding="utf-8"))
    return template.substitute(about=about[0].upper() + about[1:], sections="\n".join(sections))


def _section(
    number: int, of: int, query: Mapping[str, Any], answers: list[dict[str, Any]], queries_root: Path, root: Path
) -> str:
    cards = "".join(
        f"<li{_mark(query, row)}>{_picture(root, row['path'])}<b>{row['place']}</b> {row['score']:.3f}"
        f"{KNOWN[row['known']]}{_html(row)}</li>"
        for row in answers
    )
    return (
        f'<section id="q{number}" tabindex="0" aria-label="Query {number} of {of}"><figure>'
        f"{_picture(queries_root, query['path'])}<figcaption><b>Query {number}</b>{_html(query)}</figcaption></figure>"
        f"<ol>{cards or '<li>nobody may answer</li>'}</ol></section>"
    )


def _mark(query: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Right or wrong, where the identities of the query and of who answers are known."""
    if None in (query["identity"], row["identity"]):
        return ""
    return ' class="right"' if query["identity"] == row["identity"] else ' class="wrong"'


def _html(row: Mapping[str, Any]) -> str:
    return "".join(f"<br>{html.escape(line)}" for line in _details(row))


def _details(row: Mapping[str, Any]) -> list[str]:
    """What is known of an image, a line each."""
    lines = [f"{name} {row[name]}" for name in ("camera", "identity", "modality", "track") if row[name] is not None]
    if row["frames"] is not None:
        lines.append(f"{row['frames']} frames")
    if row["time"] is not None:
        lines.insert(1, time_text(row["time"]))
    return lines


def time_text(seconds: float) -> str:
    """
    >>> time_text(1010.0), time_text(1769817601.0)
    ('1010 s', '2026-01-31 00:00:01')
    """
    if not CALENDAR <= seconds < LAST_DATE:
        return f"{seconds:.10g} s"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _picture(root: Path, path: str) -> str:
    """Of a file below `root` alone: a gallery that somebody else made names any file."""
    made, name = thumbnail_below(root, os.path.relpath(root / path, root), THUMBNAIL), html.escape(Path(path).name)
    if made is None:
        return f'<span class="gone" title="no picture of that name below {html.escape(str(root))}">{name}</span>'
    data = base64.b64encode(made).decode()
    return f'<img src="data:image/jpeg;base64,{data}" alt="{name}" title="{html.escape(path)}">'
