"""Pixels of an open image, the same for training, galleries and uploads; imported without torch."""

import numpy as np
from PIL import Image


class Unreadable(Exception):
    """A file that is no whole image."""


def resized(image: Image.Image, height: int, width: int) -> np.ndarray:
    """RGB pixels of an open image, resized bilinearly: (height, width, 3) uint8; raises `Unreadable`."""
    try:
        return np.asarray(to_rgb(image).resize((width, height), Image.Resampling.BILINEAR))  # (H, W, 3)
    except Unreadable:
        raise
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
        raise Unreadable(str(error) or type(error).__name__) from error


def to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise Unreadable("its pixels are floating-point numbers of no known range: store 8 or 16 bits")
    if image.mode.startswith("I"):  # Pillow's own conversion would clip to white
        deep = np.asarray(image).astype(np.int64)
        upper = deep >> 8 if deep.max() > 255 else deep  # of 16 bits the upper eight, unless no more than 8 are used
        image = Image.fromarray(upper.clip(0, 255).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
