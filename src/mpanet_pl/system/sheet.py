"""Contact sheets: tiles of equal size in rows, titles over columns, captions beside rows, notes below tiles."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mpanet_pl.system.files import written_aside

TILE_HEIGHT = 192
GAP = 6
LINE = 18  # a line of text
NOTE_LINE = 15  # of a note
INK = "#222222"
PAPER = "white"


class Note(NamedTuple):
    text: str
    colour: str = INK


def tile(image: Tensor) -> Image.Image:
    """An image (3, H, W) uint8 at a sheet's size."""
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    return picture.resize((round(picture.width * TILE_HEIGHT / picture.height), TILE_HEIGHT), Image.Resampling.BICUBIC)


def lay_out(
    rows: Sequence[Sequence[Image.Image]],
    *,
    titles: Sequence[str] = (),
    captions: Sequence[str] = (),
    notes: Sequence[Sequence[Note]] = (),
    heading: str = "",
    legend: Image.Image | None = None,
) -> Image.Image:
    """Rows of tiles, a row may be short; with titles, the first column stands a little apart.

    The `heading` says how the rows were chosen, above all, in as many lines as it takes. Each tile's note stands below
    it, and the `legend` below all.
    """
    width, height = rows[0][0].size
    below = NOTE_LINE * max((note.text.count("\n") + 1 for row in notes for note in row), default=0)
    step = height + below + GAP
    across = max(len(titles), *(len(row) for row in rows))
    lines = [line for caption in captions for line in caption.splitlines()]
    margin = max((round(font().getlength(line)) for line in lines), default=-GAP) + 2 * GAP
    head, apart = (LINE + GAP, 2 * GAP) if titles else (GAP, 0)
    places = [margin + column * (width + GAP) + apart * (column > 0) for column in range(across)]
    told = wrapped(heading, places[-1] + width - GAP) if heading else []
    over = len(told) * LINE + GAP * bool(told)
    head += over
    foot = legend.height + GAP if legend else 0
    sheet = Image.new("RGB", (places[-1] + width + GAP, head + len(rows) * step + foot), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(told):
        draw.text((GAP, GAP + number * LINE), line, INK, font())
    for place, title in zip(places, titles, strict=False):
        draw.text((place + width / 2, head - GAP / 2), title, INK, font(), anchor="md")
    for number, row in enumerate(rows):
        top = head + number * step
        if captions:
            draw.text((margin - GAP, top + height / 2), captions[number], INK, font(), anchor="rm", align="right")
        for place, one in zip(places, row, strict=False):
            sheet.paste(one, (place, top))
        for place, note in zip(places, notes[number] if notes else (), strict=False):
            draw.text((place + width / 2, top + height), note.text, note.colour, font(11), anchor="ma", align="center")
    if legend:
        sheet.paste(legend, (GAP, sheet.height - foot))
    return sheet


def wrapped(text: str, width: float) -> list[str]:
    """Lines of whole words no longer than so many pixels, where a word is not."""
    lines: list[str] = []
    for word in text.split():
        if lines and font().getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def font(size: int = 13) -> ImageFont.FreeTypeFont:
    """The font of the diagrams, which matplotlib brings along."""
    file = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def save(sheet: Image.Image, path: Path) -> None:
    with written_aside(path) as aside:
        sheet.save(aside, format="PNG")
