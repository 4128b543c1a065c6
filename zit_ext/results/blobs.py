"""Blob files: immutable bytes, named by their own SHA-256, and never believed without a look."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
from pathlib import Path

from ..errors import BlobCorruptError
from ..records import Blob
from .checksums import matches
from .disk import Disk, read_up_to
from .layout import Layout

_NO_BLOB = {errno.EISDIR, errno.ELOOP, errno.EIO, errno.ENXIO}
"""A folder, a link, a bad sector, a pipe: whatever lies there, it is not what was written."""
if os.name != "nt":
    _NO_BLOB |= {errno.EACCES, errno.EPERM}  # our own file, and we may not read it; on Windows: in use


class BlobMissingError(BlobCorruptError):
    """The index names a blob, and there is no file of that name."""


class Blobs:
    """The files of one store. Whether a blob is wanted is the index's business."""

    def __init__(self, layout: Layout, disk: Disk, *, durability: str, owner: str) -> None:
        self._layout = layout
        self._folder = str(layout.blobs)
        self._disk = disk
        self._sync = durability != "off"
        self._sync_names = durability == "full"
        self._owner = owner
        self._numbers = itertools.count()

    def read(self, blob: Blob, kind: str, checksum: bytes) -> bytes:
        """Return the blob's bytes as they were written.

        Raises BlobMissingError if there is no file, BlobCorruptError if it holds anything else, and
        OSError if the disk does not answer.
        """
        digest = blob.digest
        try:
            # Joined by hand: digests come from hex, and pathlib would take longer than the disk.
            data = read_up_to(f"{self._folder}{os.sep}{digest[:2]}{os.sep}{digest}", blob.size)
        except OSError as error:
            raise _told(error, digest) from None
        if len(data) != blob.size:
            raise BlobCorruptError(digest, f"{blob.size:,} bytes were written")
        if not matches(data, kind, checksum, digest):
            raise BlobCorruptError(digest, "its bytes changed")
        return data

    def read_fully_checked(self, blob: Blob) -> bytes:
        """Return the blob's bytes, checked by the digest that is its name. Raises as `read`."""
        try:
            data = read_up_to(self._layout.blob(blob.digest), blob.size)
        except OSError as error:
            raise _told(error, blob.digest) from None
        if hashlib.sha256(data).hexdigest() != blob.digest:
            raise BlobCorruptError(blob.digest, "its bytes changed")
        return data

    def write(self, digest: str, data: bytes) -> None:
        """Put the bytes in their place, whole or not at all. Its bytes are reserved already."""
        target = self._layout.blob(digest)
        part = self._layout.incoming / f"{self._owner}-{next(self._numbers)}"
        try:
            self._disk.write_new(part, data, sync=self._sync)
            if not target.parent.is_dir():
                self._disk.make_folder(target.parent)
                if self._sync_names:
                    self._disk.sync_folder(self._layout.blobs)
            self._disk.rename(part, target)
            if self._sync_names:
                self._disk.sync_folder(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                self._disk.remove(part)
            raise

    def remove(self, digest: str) -> None:
        """Remove the file; removing it twice is fine. Raises OSError where a reader holds it open."""
        self._disk.remove(self._layout.blob(digest))

    def set_aside(self, digest: str) -> tuple[str, int] | None:
        """Move a damaged file into the quarantine; return its name there and its size."""
        return self.set_file_aside(self._layout.blob(digest))

    def set_file_aside(self, path: Path) -> tuple[str, int] | None:
        """Move any file of the store into the quarantine; return its name there and its size."""
        name = f"{path.name}.{self._owner}-{next(self._numbers)}"
        try:
            size = path.lstat().st_size
            self._disk.rename(path, self._layout.quarantine / name)
        except FileNotFoundError:
            return None
        return name, size

    def remove_aside(self, name: str) -> None:
        """Remove a file from the quarantine; removing it twice is fine."""
        path = self._layout.quarantine / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            self._disk.remove(path)


def _told(error: OSError, digest: str) -> Exception:
    """Return what a failed read says about the blob; the error itself if it says nothing about it."""
    if isinstance(error, FileNotFoundError):
        return BlobMissingError(digest, "the file is gone")
    if error.errno in _NO_BLOB:
        return BlobCorruptError(digest, f"it cannot be read: {error.strerror}")
    return error
