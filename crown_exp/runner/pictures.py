"""Arrays as pictures, through Pillow."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from crown_exp.errors import TaskError

if TYPE_CHECKING:
    import numpy as np

FORMATS = {"jpg": "JPEG"}
"""Pillow's names of formats, where they are not how a file's name ends."""
CHANNELS = (1, 3, 4)
"""Grey, red-green-blue, and that with how opaque it is."""


def picture(
    name: str, end: str, value: Any, channels_first: bool, say: Callable[[str], None]
) -> bytes:
    """An array, or an image of Pillow's, encoded as how the name ends. Raises TaskError if it cannot be.

    value: H×W, H×W×C or C×H×W with C of 1, 3 or 4, whole numbers in 0..255 or floats in 0..1; what lies
    outside of 0..1 is cut, which is said. channels_first: what to take it for if both would do.
    """
    try:
        from PIL import Image
    except ImportError:
        raise TaskError(f"run.artifact: {name}: needs Pillow: pip install pillow") from None
    image = value
    if not isinstance(value, Image.Image):
        image = Image.fromarray(pixels(name, layered(name, value, channels_first), say))
    buffer = BytesIO()
    try:
        image.save(buffer, FORMATS.get(end, end.upper()))
    except (OSError, ValueError, KeyError) as error:
        raise TaskError(f"run.artifact: {name}: not as .{end}: {error}") from None
    return buffer.getvalue()


def layered(name: str, values: np.ndarray[Any, Any], channels_first: bool) -> np.ndarray[Any, Any]:
    """H×W or H×W×C of it, C being 3 or 4."""
    shape = values.shape
    if 0 not in shape:
        if len(shape) == 2:
            return values
        if len(shape) == 3:
            first, last = shape[0] in CHANNELS, shape[2] in CHANNELS
            if first and (channels_first or not last):
                values, last = values.transpose(1, 2, 0), True
            if last:
                return values[:, :, 0] if values.shape[2] == 1 else values
    raise TaskError(
        f"run.artifact: {name}: a picture is H×W, H×W×C or C×H×W with C of 1, 3 or 4; this has shape "
        f"{shape}"
    )


def pixels(
    name: str, values: np.ndarray[Any, Any], say: Callable[[str], None]
) -> np.ndarray[Any, Any]:
    """As bytes of 0..255."""
    import numpy as np

    low, high = (0, 255) if values.dtype.kind in "iu" else (0, 1)
    if values.dtype.kind not in "iufb":
        raise TaskError(f"run.artifact: {name}: a picture holds numbers, this {values.dtype}")
    least, most = values.min(), values.max()
    if not (low <= least and most <= high):  # nan, too, is not
        if high == 255:
            raise TaskError(
                f"run.artifact: {name}: whole numbers of a picture are in 0..255, these in {least}..{most}"
            )
        say(f"run.artifact: {name}: values in {least:.4g}..{most:.4g} are cut to 0..1")
        values = np.nan_to_num(values, nan=0.0).clip(0, 1)
    scaled = values if high == 255 else np.rint(values.astype(np.float32) * 255)
    return np.ascontiguousarray(scaled.astype(np.uint8))
