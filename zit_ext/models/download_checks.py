"""Compares a downloaded file with what the hub promised of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from .digests import hash_file, never
from .weight_files import look


def is_as_promised(
    path: Path,
    *,
    sha256: str | None = None,
    git_hash: str | None = None,
    wants_stop: Callable[[], bool] = never,
) -> bool:
    """Tell whether the file is there and has these bytes. Without any promise, being there is enough."""
    if not path.is_file():
        return False
    if sha256 is not None:
        return hash_file(look(path)[0], wants_stop) == sha256
    return git_hash is None or git_blob_hash(path.read_bytes()) == git_hash


def git_blob_hash(data: bytes) -> str:
    """Return the name that git gives to a file with these bytes.

    >>> git_blob_hash(b"")
    'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'
    """
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
