"""Which images, and what is known of each: a folder, a list of paths, or a table with columns of its own.

Everything is a column of an Arrow table, so that a hundred million images are some gigabytes and no loop.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from mpanet_pl.data.faults import listed
from mpanet_pl.errors import UserError
from mpanet_pl.gallery.shards import TEXT
from mpanet_pl.gallery.walking import absolute, is_readable_name, relative, walked

DETAILS = ("camera", "time", "identity", "modality", "track")  # what may be said of an image
MODALITIES = {
    **dict.fromkeys(("visible", "vis", "rgb"), "visible"),
    **dict.fromkeys(("infrared", "ir", "nir", "thermal"), "infrared"),
}


def list_images(
    images: str | Path,
    *,
    name: str | None = None,
    group: str | None = None,
    root: Path | None = None,
    notes: list[str] | None = None,
) -> pa.Table:
    """A row an image: path, camera, time (seconds), identity, modality, track; null where it is not known.

    images: a folder, searched in depth; a .txt with a path a line; a .csv with a column `path` and others; or an image.
    name: a regular expression whose named groups stand in paths below `images`: `(?P<camera>\\d+)_(?P<time>\\d+)`.
    group: the column, or the group of `name`, whose images make one tracklet within a camera.
    notes: gets a sentence for each kind of folder that was left out.
    Paths are relative to `root` where they lie below it, absolute otherwise. Rows are sorted: by tracklet, by path.
    """
    source = Path(images).expanduser()
    columns = dict(_columns(source, [] if notes is None else notes))
    paths = columns.pop("path")
    if name is not None:
        columns |= _from_names(relative(paths, root_of(images)), name)
    if group is not None:
        if group not in columns:
            known = ", ".join(columns) or "none"
            raise UserError(f"group={group} is no column of {images} and no group of name=…; there are: {known}.")
        columns["track"] = columns[group]
        if missing := columns["track"].null_count:
            raise UserError(f"{missing} images of {images} have no {group}: a gallery of tracklets needs it of each.")
    texts = {column: columns.get(column, pa.nulls(len(paths), TEXT)) for column in DETAILS}
    table = pa.table(
        {
            "path": relative(paths, root),
            "camera": _number_or_name(texts["camera"]),
            "time": _seconds(texts["time"]),
            "identity": _number_or_name(texts["identity"]),
            "modality": _modality(texts["modality"]),
            "track": texts["track"],
        }
    )
    if len(table) and pc.count_distinct(table["path"]).as_py() < len(table):
        often = table["path"].value_counts()
        twice = often.filter(pc.greater(pc.struct_field(often, "counts"), 1)).field("values").to_pylist()
        raise UserError(f"{len(twice)} images are listed twice: {listed(twice)}")
    order = ("camera", "track", "path") if group is not None else ("track", "path")
    return table.sort_by([(column, "ascending") for column in order])


def root_of(images: str | Path) -> Path:
    """The folder that the listed paths are of."""
    source = Path(images).expanduser().absolute()
    return source if source.is_dir() else source.parent


def _columns(source: Path, notes: list[str]) -> Iterator[tuple[str, pa.Array]]:
    """`path`, absolute, and whatever text columns there are."""
    if source.is_dir():
        yield "path", walked(source.absolute(), notes)
    elif not source.is_file():
        raise UserError(f"{source} does not exist.")
    elif source.suffix.lower() == ".csv":
        table = _read_csv(source)
        if "path" not in table.column_names or not len(table):
            raise UserError(f"{source} has {len(table)} rows and the columns {', '.join(table.column_names)}: no path.")
        for column in table.column_names:
            yield column, _absolute(table[column], source) if column == "path" else table[column]
    elif is_readable_name(source.name):
        yield "path", pa.array([str(source.absolute())], TEXT)
    elif source.suffix.lower() == ".txt":
        yield "path", _absolute(pa.array(lines_of(source), TEXT), source)
    else:
        raise UserError(f"{source} is no image, no .txt with a path a line, and no .csv with a column `path`.")


def lines_of(source: Path) -> list[str]:
    """The paths that a text file lists, a line each."""
    try:
        lines = [line.strip() for line in source.expanduser().read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source} is no list of images: {error}.") from error
    if not any(lines):
        raise UserError(f"{source} lists no image.")
    return [line for line in lines if line]


def _read_csv(source: Path) -> pa.Table:
    try:
        with source.open(encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
        types = dict.fromkeys(header, TEXT)
        options = pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True, null_values=[""])
        return pyarrow.csv.read_csv(source, convert_options=options)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{source} is no table of images: {error}.") from error


def _absolute(paths: pa.Array, source: Path) -> pa.Array:
    if paths.null_count:
        raise UserError(f"{source} has {paths.null_count} rows without a path.")
    return absolute(paths, source.absolute().parent)


def _from_names(paths: pa.Array, pattern: str) -> Mapping[str, pa.Array]:
    try:
        groups = list(re.compile(pattern).groupindex)
        found = pc.extract_regex(paths, pattern)
    except (re.error, pa.ArrowInvalid) as error:
        raise UserError(f"name={pattern} is no regular expression with named groups: {error}.") from error
    if not groups:
        raise UserError(f"name={pattern} has no named group such as (?P<camera>\\d+).")
    if found.null_count == len(found):
        raise UserError(f"name={pattern} matches none of {len(found)} paths, such as {paths[0].as_py()}.")
    return {group: pc.if_else(pc.is_valid(found), pc.struct_field(found, group), None) for group in groups}


def _number_or_name(values: pa.Array) -> pa.Array:
    """Camera 3 is camera 0003."""
    stripped = pc.utf8_ltrim(values, "0")
    number = pc.if_else(pc.equal(stripped, ""), pa.scalar("0", TEXT), stripped)
    return pc.if_else(pc.match_substring_regex(values, "^[0-9]+$"), number, values)


def number_or_name(value: object) -> str:
    """
    >>> [number_or_name(text) for text in (3, "0003", "000", "door", "0" * 5000 + "7")]
    ['3', '3', '0', 'door', '7']
    """
    text = str(value)
    return (text.lstrip("0") or "0") if text.isascii() and text.isdecimal() else text


def _seconds(values: pa.Array) -> pa.Array:
    """Numbers as they are, dates and times as seconds since 1970."""
    try:
        seconds = pc.cast(values, pa.float64())
    except pa.ArrowInvalid:
        seconds = _dates(values)
    if odd := pc.filter(values, pc.and_(pc.is_valid(seconds), pc.invert(pc.is_finite(seconds)))).unique().to_pylist():
        raise UserError(f"A time is a finite number of seconds or an ISO date, got {listed(odd)}.")
    return seconds


def _dates(values: pa.Array) -> pa.Array:
    try:
        moments = pc.cast(pc.cast(values, pa.string()), pa.timestamp("us"))
        return pc.divide(pc.cast(pc.cast(moments, pa.int64()), pa.float64()), 1e6)
    except pa.ArrowInvalid as error:
        raise UserError(f"A time is a number of seconds or an ISO date such as 2026-01-31T12:00:00: {error}") from error


def _modality(values: pa.Array) -> pa.Array:
    given = pc.utf8_lower(values)
    place = pc.index_in(given, pa.array(list(MODALITIES), TEXT))
    unknown = pc.and_(pc.is_valid(given), pc.is_null(place))
    if wrong := pc.filter(given, unknown).unique().to_pylist():
        raise UserError(f"A modality is one of {', '.join(MODALITIES)}, got {listed(wrong)}.")
    return pc.take(pa.array(list(MODALITIES.values()), TEXT), place)
