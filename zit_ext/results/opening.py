"""Opens the index: made if it is not there, migrated if it is old, set aside if it is malformed."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from . import schema
from .database import connect, is_malformed
from .disk import Disk
from .layout import Layout
from .owners import exclusive

log = logging.getLogger(__name__)

_COMPANIONS = ("-wal", "-shm")
_CACHE_KIB = 32_768
"""Memory of the one connection that writes: a million keys come in random order."""


@dataclass(slots=True)
class Opened:
    """The connection that writes, and the file it belongs to."""

    db: sqlite3.Connection
    inode: int
    was_malformed: bool = False
    is_new: bool = False

    def is_current(self, path: Path) -> bool:
        """Tell whether this is still the store's index, and not one that somebody set aside or deleted."""
        try:
            return path.stat().st_ino == self.inode
        except FileNotFoundError:
            return False


def open_index(layout: Layout, disk: Disk, *, durability: str, malformed_inode: int | None = None) -> Opened:
    """Return the index, ready to write. `malformed_inode` is a file that SQLite has called malformed.

    Raises StoreVersionError if the index is newer than we are, OSError or sqlite3.Error if it is out of
    reach.
    """
    for folder in layout.folders:
        disk.make_folder(folder)
    with exclusive(layout.lock):
        # Another process may have set it aside while we waited for the lock.
        if malformed_inode is not None and _inode(layout.index) == malformed_inode:
            _set_index_aside(layout, disk)
        try:
            opened = _open(layout.index, durability)
        except sqlite3.DatabaseError as error:
            if not is_malformed(error):
                raise
            log.error("the index is malformed (%s); it is set aside, and an empty one takes its place", error)
            _set_index_aside(layout, disk)
            opened = _open(layout.index, durability)
            opened.was_malformed = True
        opened.was_malformed |= malformed_inode is not None
        return opened


def _open(path: Path, durability: str) -> Opened:
    db = connect(path, durability=durability, cache_kib=_CACHE_KIB)
    try:
        is_new = schema.version_of(db) == 0
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            log.warning("the index cannot use a write-ahead log here (%s): several processes will wait", mode)
        schema.migrate(db)
        db.execute("SELECT entries FROM totals").fetchone()
        return Opened(db, path.stat().st_ino, is_new=is_new)
    except BaseException:
        db.close()
        raise


def _set_index_aside(layout: Layout, disk: Disk) -> None:
    name = f"index-{time.time_ns()}.sqlite3"
    with contextlib.suppress(FileNotFoundError):
        disk.rename(layout.index, layout.quarantine / name)
    for companion in _COMPANIONS:
        disk.remove(layout.index.with_name(layout.index.name + companion))


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
