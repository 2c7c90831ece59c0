"""Pages that a person opens from a file: tables, pictures and texts in one HTML file that needs no network."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template
from urllib.parse import quote

from PIL import Image

from mpanet_pl.evaluation.tables import Grid
from mpanet_pl.system.files import write_text

PAGE = "index.html"
BROAD = 1000  # pixels, from which on a picture has a row of its own
LARGE = 250_000  # bytes


class Markup(str):
    """A text that is HTML already."""


def write_page(folder: Path, title: str, lead: str, sections: Iterable[str]) -> None:
    template = Template((Path(__file__).with_name(PAGE)).read_text(encoding="utf-8"))
    text = template.substitute(title=escape(title), lead=escape(lead), body="\n".join(filter(None, sections)))
    write_text(folder / PAGE, text)


def section(title: str, *parts: str) -> str:
    """Nothing where there are no parts."""
    body = "\n".join(filter(None, parts))
    return f"<h2>{escape(title)}</h2>\n{body}" if body else ""


def table(grid: Grid) -> str:
    """A cell's second line is set smaller; a header without titles is left out."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in grid[0])
    header = f"<thead><tr>{titles}</tr></thead>\n" if any(grid[0]) else ""
    rows = "\n".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in grid[1])
    return f'<div class="wide"><table>\n{header}{rows}\n</table></div>'


def _cell(text: str) -> str:
    if isinstance(text, Markup):
        return text
    first, *others = escape(text).split("\n")
    return first + "".join(f"<small>{line}</small>" for line in others)


def remarks(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="remarks">{items}</ul>' if lines else ""


def pictures(shown: Iterable[tuple[Path, str, str]]) -> str:
    """Each PNG with its title and a sentence on how to read it, the bytes within the page."""
    figures = [
        f"<figure{_breadth(path)}><figcaption><b>{escape(title)}.</b> {escape(sentence)}</figcaption>"
        f'<img alt="{escape(title)}" src="{_within(path)}"></figure>'
        for path, title, sentence in shown
    ]
    return f'<div class="pictures">\n{"".join(figures)}\n</div>' if figures else ""


def _breadth(path: Path) -> str:
    with Image.open(path) as picture:
        return ' class="broad"' if picture.width > BROAD else ""


def _within(path: Path) -> str:
    """A data URL; photographs as JPEG, which is a fifth of their PNG."""
    kind, data = "png", path.read_bytes()
    if len(data) > LARGE:
        with Image.open(path) as picture:
            picture.convert("RGB").save(smaller := BytesIO(), "JPEG", quality=90)
        kind, data = "jpeg", smaller.getvalue()
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def folded(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>" if text else ""


def link(path: str, text: str | None = None) -> Markup:
    """To a file below the page's folder."""
    return Markup(f'<a href="{quote(path)}">{escape(text or path)}</a>')
