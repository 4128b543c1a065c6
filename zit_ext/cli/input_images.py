"""Reads the picture that an image-to-image request starts from."""

from __future__ import annotations

from pathlib import Path

from ..errors import RequestError
from ..records import InputImage


def read_image(path: Path) -> InputImage:
    """Return the picture in a file. Raises RequestError if there is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RequestError("image", str(path), f"name a file that can be read ({error.strerror})") from None
    known = data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) or data[:4] + data[8:12] == b"RIFFWEBP"
    if not known:
        raise RequestError("image", str(path), "give a PNG, JPEG or WebP file; this is none of them")
    return InputImage.of(data)
