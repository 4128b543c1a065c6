"""Fast checksums of blobs: what tells a damaged file from a whole one on every read.

XXH3 where the package is installed, 40 times as fast as SHA-256. A row says which kind it holds; a
kind that is not at hand here is no loss, since every blob is named by its SHA-256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

SHA256 = "sha256"
XXH3 = "xxh3_128"


def _xxh3() -> Callable[[bytes], bytes] | None:
    try:
        from xxhash import xxh3_128_digest
    except ImportError:
        return None
    digest: Callable[[bytes], bytes] = xxh3_128_digest
    return digest


_FAST = _xxh3()
KIND = SHA256 if _FAST is None else XXH3
"""The kind that new rows get."""


def checksum(data: bytes) -> bytes:
    """Return the checksum of kind `KIND`; empty if that is the SHA-256 that every blob has anyway."""
    return b"" if _FAST is None else _FAST(data)


def matches(data: bytes, kind: str, expected: bytes, digest: str) -> bool:
    """Tell whether these are the bytes of the blob with this checksum and this SHA-256."""
    if kind == XXH3 and _FAST is not None:
        return _FAST(data) == expected
    return hashlib.sha256(data).hexdigest() == digest
