"""One image file as pixels, as Keras' own loader gives them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penjing.errors import DataError, require_extra

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"}
# What is opened, whatever a name ends in: others run programs, or are no pixels.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_EIGHT_BITS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_PHOTOMETRIC, _BITS_PER_SAMPLE = 262, 258


def read_image(path: Path, size: Sequence[int]) -> npt.NDArray[np.float32]:
    """Read an image as Keras' `image_dataset_from_directory` does, from 0 to 255.

    Transparency is left out, palettes become colours, 16 bits become 8, of an animation
    the first picture is taken; the size is reached by bilinear interpolation without
    antialiasing. `size` is `(height, width)` or `(height, width, channels)` with 1 or 3
    channels. Gigantic images, and pixels that have no certain white, are a DataError.
    """
    image_module = require_extra("PIL.Image", "images")
    grey = len(size) == 2 or size[2] == 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image_module.DecompressionBombWarning)
            with image_module.open(path, formats=_FORMATS) as image:
                pixels = _pixels(image, grey)
    except (
        OSError,
        ValueError,
        SyntaxError,
        MemoryError,
        image_module.DecompressionBombError,
        image_module.DecompressionBombWarning,
    ) as error:
        raise DataError(
            f"Cannot read the image {path} ({error}). Remove it or save it again, as "
            "PNG or JPEG with 8 bits for each channel."
        ) from error
    return resize(pixels, size[0], size[1]).reshape(tuple(size))


def _pixels(image: Any, grey: bool) -> npt.NDArray[np.uint8]:
    """8-bit pixels `(height, width, channels)` of an open Pillow image."""
    if _has_sixteen_bits(image):
        high = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        return np.repeat(high[..., None], 1 if grey else 3, axis=-1)
    if image.mode not in _EIGHT_BITS:
        raise ValueError(
            f"its pixels are of the kind {image.mode!r}, whose white is not known"
        )
    if image.mode in ("P", "PA", "La"):
        image = image.convert("RGBA")
    array: npt.NDArray[np.uint8] = np.asarray(image.convert("L" if grey else "RGB"))
    return array[..., None] if grey else array


def _has_sixteen_bits(image: Any) -> bool:
    """Whether grey values go from 0 to 65535; a ValueError where that is not sure."""
    if image.mode == "I" and image.format == "PPM":
        return True
    if not image.mode.startswith("I;16"):
        return False
    if image.format == "TIFF":
        tags = image.tag_v2
        if tags.get(_PHOTOMETRIC) != 1 or tuple(tags[_BITS_PER_SAMPLE]) != (16,):
            raise ValueError("it has neither 8 nor plain 16 bits for each pixel")
    return True


def resize(
    pixels: npt.NDArray[Any], height: int, width: int
) -> npt.NDArray[np.float32]:
    """Resize an image `(height, width, channels)` as `tf.image.resize` does.

    Example:
        >>> resize(np.array([[[0], [9]]]), 1, 4).ravel().tolist()
        [0.0, 2.25, 6.75, 9.0]
    """
    if pixels.shape[:2] == (height, width):
        return pixels.astype(np.float32)
    top, bottom, down = _neighbours(pixels.shape[0], height)
    left, right, along = _neighbours(pixels.shape[1], width)
    along = along[:, None]

    def row(position: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        lines = pixels[position]
        first = lines[:, left].astype(np.float32)
        return np.asarray(first + (lines[:, right] - first) * along, np.float32)

    above = row(top)
    return np.asarray(above + (row(bottom) - above) * down[:, None, None], np.float32)


def _neighbours(
    length: int, wanted: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.float32]]:
    """The two positions that each new one lies between, and where between them."""
    scale = np.float32(length / wanted)
    place = (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * scale
    place -= np.float32(0.5)
    lower = np.floor(place)
    between = (place - lower).astype(np.float32)
    last = length - 1
    first = np.clip(lower, 0, last).astype(np.intp)
    return first, np.clip(np.ceil(place), 0, last).astype(np.intp), between
