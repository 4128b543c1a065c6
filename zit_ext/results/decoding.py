"""Is it what it says it is? The check of a blob when it is written, verified, imported or received."""

from __future__ import annotations

import hashlib

from ..codecs import PNG, SAFETENSORS, CodecError, check_png, decode_png
from ..tensors import check_tensors


def check_decodable(media_type: str, data: bytes, content_digest: str | None) -> None:
    """Raise CodecError unless these bytes decode to the content with this digest.

    Without a digest, or with that of the bytes themselves, they have to decode to something.
    """
    if not data:
        raise CodecError("there are no bytes")
    pixels_expected = content_digest is not None and media_type == PNG
    if pixels_expected and content_digest != hashlib.sha256(data).hexdigest():
        if decode_png(data).digest != content_digest:
            raise CodecError("the PNG holds other pixels than it should")
    elif media_type == PNG:
        check_png(data)
    elif media_type == SAFETENSORS:
        check_tensors(data)
