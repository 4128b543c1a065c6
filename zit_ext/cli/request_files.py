"""A request as a JSON file. A picture to start from is looked for beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..json_texts import parsed
from ..records import InputImage, Request
from ..request_json import request_of
from .input_images import read_image


def read_request(path: Path) -> Request:
    """Return the request in a file. Raises RequestError that names the file or the field."""
    try:
        values = parsed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError("request", str(path), f"name a JSON file with a request ({error})") from None
    if not isinstance(values, dict):
        raise RequestError("request", str(path), 'the file must hold {"field": value, ...}')
    if "prompt" not in values:
        raise RequestError("prompt", None, "the file must name a prompt")

    def beside(value: Any) -> InputImage:
        if not isinstance(value, str):
            raise RequestError("image", value, "name a PNG, JPEG or WebP file")
        return read_image(path.parent / value)

    return request_of(values, beside)
