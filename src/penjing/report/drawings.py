"""Small drawings of a page: histograms, series, and pictures as PNG files.

PNG is written here: it is a dozen lines of the standard library, and Pillow is an
extra.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _COLOR, _PALETTE, _GREY_ALPHA, _COLOR_ALPHA = 0, 2, 3, 4, 6
_KINDS = {1: _GREY, 2: _GREY_ALPHA, 3: _COLOR, 4: _COLOR_ALPHA}
_MASK_LEVELS = 10
_MASK_COLOR = (60, 154, 99)
_MAX_PNG = 40_000


def png_of(pixels: np.ndarray) -> bytes:
    """Write an image as a PNG file.

    Args:
        pixels: uint8 of shape `(height, width, channels)`, 1 to 4 channels: grey, grey
            and alpha, colors, colors and alpha.

    Returns:
        The bytes of the file.

    Example:
        >>> png_of(np.zeros((1, 1, 1), np.uint8))[1:4]
        b'PNG'
    """
    return _png(pixels, _KINDS[pixels.shape[2]], b"")


def _png(pixels: np.ndarray, kind: int, palette: bytes) -> bytes:
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # 0: no filter
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    data = _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
    head = _SIGNATURE + _chunk(b"IHDR", header)
    return head + palette + data + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def mask_picture(rows: Sequence[str]) -> str:
    """Draw the mask of a weight, from digits as `WeightPicture` has them.

    Returns:
        A PNG file in base64, green where values are left, empty where none are; empty
        where the rows are no such picture.
    """
    if not rows or not rows[0] or len({len(row) for row in rows}) != 1:
        return ""
    text = "".join(rows)
    if not (text.isascii() and text.isdigit()):
        return ""
    digits = np.frombuffer(text.encode(), np.uint8) - ord("0")
    pixels = digits.reshape(len(rows), -1, 1)
    colors = _chunk(b"PLTE", bytes(_MASK_COLOR) * _MASK_LEVELS)
    alphas = [round(255 * level / (_MASK_LEVELS - 1)) for level in range(_MASK_LEVELS)]
    palette = colors + _chunk(b"tRNS", bytes(alphas))
    return base64.b64encode(_png(pixels, _PALETTE, palette)).decode()


def checked_png(picture: str) -> str:
    """Give a PNG file in base64 back, or nothing if it is none or too large."""
    try:
        content = base64.b64decode(picture, validate=True)
    except (binascii.Error, ValueError):
        return ""
    is_png = content.startswith(_SIGNATURE) and len(content) <= _MAX_PNG
    return picture if is_png else ""


def steps_path(counts: Sequence[int], width: float, height: float) -> str:
    """Draw counts as the outline of a histogram, in a box of this size.

    Counts are drawn by their square roots: few values that are far out can be seen.

    Example:
        >>> steps_path((0, 4), 10, 4)
        'M0 4H5V0H10V4Z'
    """
    top = math.sqrt(max(counts, default=0)) or 1.0
    parts = [f"M0 {height:g}"]
    last = height
    for number, count in enumerate(counts):
        y = round(height - height * math.sqrt(max(count, 0)) / top, 1)
        x = round(width * (number + 1) / len(counts), 1)
        parts.append(f"H{x:g}" if y == last else f"V{y:g}H{x:g}")
        last = y
    return "".join(parts) + f"V{height:g}Z"


def series_points(series: Sequence[float], width: float, height: float) -> str:
    """Points of a line through numbers, in a box of this size; others are left out.

    Example:
        >>> series_points((0.0, 1.0), 10, 4)
        '0,4 10,0'
    """
    finite = [value for value in series if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    return " ".join(
        f"{round(width * number / (len(series) - 1), 1):g},"
        f"{round(height - height * (value - low) / span, 1):g}"
        for number, value in enumerate(series)
        if math.isfinite(value)
    )
