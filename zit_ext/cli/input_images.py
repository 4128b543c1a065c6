"""Reads the picture that an image-to-image request starts from."""

from __future__ import annotations

from pathlib import Path

from ..errors import RequestError
from ..records import InputImage
from ..request_json import image_of


def read_image(path: Path) -> InputImage:
    """Return the picture in a file. Raises RequestError if there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RequestError("image", str(path), f"name a file that can be read ({error.strerror})") from None
    return image_of(data, str(path))
