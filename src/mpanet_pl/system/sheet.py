"""Contact sheets: tiles of equal size in rows, with a title over each column and a caption beside each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mpanet_pl.system.files import written_aside

TILE_HEIGHT = 192
GAP = 6
LINE = 18  # a line of text
INK = "#222222"
PAPER = "white"


def tile(image: Tensor) -> Image.Image:
    """An image (3, H, W) uint8 at a sheet's size."""
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    return picture.resize((round(picture.width * TILE_HEIGHT / picture.height), TILE_HEIGHT), Image.Resampling.BICUBIC)


def lay_out(
    rows: Sequence[Sequence[Image.Image]],
    *,
    titles: Sequence[str] = (),
    captions: Sequence[str] = (),
    heading: str = "",
) -> Image.Image:
    """Rows of tiles, a row may be short; with titles, the first column stands a little apart.

    The `heading` says how the rows were chosen, above all, in as many lines as it takes.
    """
    width, height = rows[0][0].size
    across = max(len(titles), *(len(row) for row in rows))
    lines = [line for caption in captions for line in caption.splitlines()]
    margin = max((round(font().getlength(line)) for line in lines), default=-GAP) + 2 * GAP
    head, apart = (LINE + GAP, 2 * GAP) if titles else (GAP, 0)
    places = [margin + column * (width + GAP) + apart * (column > 0) for column in range(across)]
    told = wrapped(heading, places[-1] + width - GAP) if heading else []
    over = len(told) * LINE + GAP * bool(told)
    head += over
    sheet = Image.new("RGB", (places[-1] + width + GAP, head + len(rows) * (height + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(told):
        draw.text((GAP, GAP + number * LINE), line, INK, font())
    for place, title in zip(places, titles, strict=False):
        draw.text((place + width / 2, head - GAP / 2), title, INK, font(), anchor="md")
    for number, row in enumerate(rows):
        top = head + number * (height + GAP)
        if captions:
            draw.text((margin - GAP, top + height / 2), captions[number], INK, font(), anchor="rm", align="right")
        for place, one in zip(places, row, strict=False):
            sheet.paste(one, (place, top))
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


def font() -> ImageFont.FreeTypeFont:
    """The font of the diagrams, which matplotlib brings along."""
    file = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(file, 13, layout_engine=ImageFont.Layout.BASIC)


def save(sheet: Image.Image, path: Path) -> None:
    with written_aside(path) as aside:
        sheet.save(aside, format="PNG")
