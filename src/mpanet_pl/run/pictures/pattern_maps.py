"""Where pattern maps look: people in rows, each beside its image under each of its maps."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import interpolate

from mpanet_pl.system.sheet import GAP, INK, LINE, PAPER, font, lay_out, save, tile

COLOURS = torch.tensor(matplotlib.colormaps["plasma"].resampled(256)(range(256)))[:, :3].float()
BOX = "#00B7FF"
BAR = (160, 12)  # pixels of the legend's scale


def draw_patterns(
    images: Tensor,
    maps: Tensor,
    path: Path,
    *,
    boxes: Tensor | None = None,
    captions: Sequence[str] = (),
    heading: str = "",
) -> None:
    """Images (B, 3, H, W) uint8, their maps (B, P, h, w) and, where known, their nuances' boxes (B, K, 4).

    Each pattern's colours run from its weakest to its strongest response on the whole sheet, so that images can be
    compared; a cross marks an image's strongest cell. Boxes are in fractions of the image, NaN where not visible. The
    legend says so below the sheet.
    """
    strength = _stretched(maps.float().cpu())
    rows = []
    for number, image in enumerate(images):
        plain = tile(image)
        if boxes is not None:
            _outline(plain, boxes[number])
        rows.append([plain, *(_overlaid(tile(image), one) for one in strength[number])])
    titles = ["image", *(f"map {p}" for p in range(1, maps.shape[1] + 1))]
    save(lay_out(rows, titles=titles, captions=captions, heading=heading, legend=_legend(boxes is not None)), path)


def _legend(with_boxes: bool) -> Image.Image:
    """What colours, cross and boxes mean, in two lines."""
    parts = "+ the strongest cell of an image" + "; blue box: what the drawing knows of this person" * with_boxes
    weakest, strongest = "a map's weakest response", "its strongest, over all images of this sheet"
    left = round(font().getlength(weakest)) + GAP
    width = max(left + BAR[0] + GAP + font().getlength(strongest), font().getlength(parts))
    legend = Image.new("RGB", (round(width), 2 * LINE), PAPER)
    draw = ImageDraw.Draw(legend)
    scale = Image.fromarray((COLOURS[None] * 255).byte().numpy()).resize(BAR)
    legend.paste(scale, (left, (LINE - BAR[1]) // 2))
    draw.text((0, 0), weakest, INK, font())
    draw.text((left + BAR[0] + GAP, 0), strongest, INK, font())
    draw.text((0, LINE), parts, INK, font())
    return legend


def _stretched(maps: Tensor) -> Tensor:
    """To [0, 1], pattern by pattern."""
    low, high = maps.amin(dim=(0, 2, 3), keepdim=True), maps.amax(dim=(0, 2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-12)


def _overlaid(picture: Image.Image, strength: Tensor) -> Image.Image:
    """The picture in bright grey, coloured the more the stronger the map (h, w) in [0, 1] is."""
    size = (picture.height, picture.width)
    smooth = interpolate(strength[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    grey = torch.from_numpy(np.array(picture.convert("L")))[..., None] / 255
    glow = COLOURS[(smooth * 255).long()]  # (H, W, 3)
    share = 0.15 + 0.7 * smooth[..., None]
    mixed = (0.3 + 0.7 * grey) * (1 - share) + glow * share
    overlaid = Image.fromarray((mixed.clamp(0, 1) * 255).byte().numpy())
    _cross(overlaid, strength)
    return overlaid


def _cross(picture: Image.Image, strength: Tensor) -> None:
    row, column = divmod(int(strength.argmax()), strength.shape[1])
    x = (column + 0.5) / strength.shape[1] * picture.width
    y = (row + 0.5) / strength.shape[0] * picture.height
    draw = ImageDraw.Draw(picture)
    for colour, width in (("black", 4), ("white", 2)):  # seen on any colour
        for line in ((x - 5, y, x + 5, y), (x, y - 5, x, y + 5)):
            draw.line(line, fill=colour, width=width)


def _outline(picture: Image.Image, boxes: Tensor) -> None:
    draw = ImageDraw.Draw(picture)
    visible = boxes[~boxes.isnan().any(dim=1)]
    for left, top, right, bottom in visible.tolist():
        corners = (left * picture.width, top * picture.height, right * picture.width, bottom * picture.height)
        draw.rectangle(corners, outline=BOX, width=2)
