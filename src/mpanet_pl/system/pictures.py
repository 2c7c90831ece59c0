"""Pixels of an open image, the same for training, galleries and uploads; imported without torch."""

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")  # Pillow starts a program for some of the others
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


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


def upright(image: Image.Image) -> Image.Image:
    """The picture as it was seen: a camera that was turned says so in EXIF's orientation."""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a broken note of the camera's does not make a picture unreadable
        return image
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info = {key: value for key, value in image.info.items() if key == "transparency"}  # it is not turned twice
    return turned


def to_rgb(image: Image.Image) -> Image.Image:
    image = upright(image)
    if image.mode == "F":
        raise Unreadable("its pixels are floating-point numbers of no known range: store 8 or 16 bits")
    if image.mode.startswith("I"):  # Pillow's own conversion would clip to white
        deep = np.asarray(image).astype(np.int64)
        upper = deep >> 8 if deep.max() > 255 else deep  # of 16 bits the upper eight, unless no more than 8 are used
        image = Image.fromarray(upper.clip(0, 255).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
