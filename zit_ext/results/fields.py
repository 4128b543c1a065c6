"""The fields of an entry at rest: small enough for a million entries, and silent about prompts if told so.

Fields of one model and one environment are nearly the same text, so they are packed against a
dictionary: the fields of an earlier entry without its prompts.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping

from ..fingerprint import canonical_bytes, read_canonical
from ..records import FieldValue

POOR = 0.5
"""A packing worse than this says that the dictionary is another model's."""
MAX_DICTIONARIES = 256

_PLAIN = re.compile(r"[A-Za-z0-9_.:/+-]{0,64}")
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{64}")


def pack(canonical: bytes, dictionary: bytes) -> bytes:
    """Return canonical fields, packed against a dictionary (empty for none)."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, 8, zlib.Z_DEFAULT_STRATEGY, dictionary)
    return packer.compress(canonical) + packer.flush()


def unpack(packed: bytes, dictionary: bytes) -> bytes:
    """Return the canonical fields again. Raises ValueError if they are damaged."""
    try:
        unpacker = zlib.decompressobj(-15, dictionary)
        canonical = unpacker.decompress(packed)
    except zlib.error as error:
        raise ValueError("the fields cannot be unpacked") from error
    if not unpacker.eof:
        raise ValueError("the fields are cut short")
    return canonical


def redacted(canonical: bytes) -> bytes:
    """Return the same fields with digests in the place of what people wrote.

    Prompts go, wherever they are, with everything below a field of that name; so does every text that a
    host or a plugin added, and any text that is more than a name. Redacting twice changes nothing.

    >>> redacted(b"{s6:prompts5:a cats5:stepsi8;}")[:24]
    b'{s6:prompts71:sha256:51e'
    """
    return canonical_bytes(_redact(read_canonical(canonical), everything=False))


def _redact(value: FieldValue, *, everything: bool) -> FieldValue:
    if isinstance(value, Mapping):
        return {
            _text(name, everything=everything): _redact(each, everything=everything or _is_personal(name))
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [_redact(each, everything=everything) for each in value]
    if isinstance(value, bytes):
        return "sha256:" + hashlib.sha256(value).hexdigest()
    return _text(value, everything=everything) if isinstance(value, str) else value


def _is_personal(name: str) -> bool:
    """Tell whether what is under this name may be somebody's words: a prompt, or a plugin's field."""
    return "prompt" in name or "." in name


def _text(text: str, *, everything: bool) -> str:
    if not text or _DIGEST.fullmatch(text) or (not everything and _PLAIN.fullmatch(text)):
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
