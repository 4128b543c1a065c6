"""The few things the store does to files, in one place: what must be private, whole and lasting.

Everything that changes a file of the store, apart from SQLite's own, passes through a `Disk`. Tests
record its calls and replay them up to any instant, as a power cut would leave them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

    _FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync leaves the bytes in the drive's cache
else:
    _FULL_SYNC = None

_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # a link in our folder is not ours
_READ = os.O_RDONLY | _BINARY | _NO_FOLLOW


class Disk:
    """File operations on the real disk. All raise OSError."""

    def make_folder(self, path: Path) -> None:
        """Make a folder that only this user can enter. Making it twice is fine."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write_new(self, path: Path, data: bytes, *, sync: bool) -> None:
        """Write a file that was not there, readable by this user alone."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _NO_FOLLOW, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if sync:
                _sync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Move a file to its final name, over what may be there: readers see the whole file or none."""
        os.replace(source, target)

    def sync_folder(self, path: Path) -> None:
        """Make the names in a folder last. Windows has no such call, and needs none."""
        if os.name == "nt":
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Remove a file; removing it twice is fine."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def _sync(descriptor: int) -> None:
    """Wait until the bytes would outlast a power cut."""
    if _FULL_SYNC is not None:
        fcntl.fcntl(descriptor, _FULL_SYNC)
    else:
        os.fsync(descriptor)


def read_up_to(path: Path | str, limit: int) -> bytes:
    """Return the file's bytes, and at most one more than `limit`: a longer file shows, and costs nothing."""
    descriptor = os.open(path, _READ)
    try:
        data = os.read(descriptor, limit + 1)
        if len(data) >= limit:
            return data
        parts = [data]
        while data:
            data = os.read(descriptor, limit + 1 - sum(map(len, parts)))
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(descriptor)
