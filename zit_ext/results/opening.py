"""Opens the index: made if it is not there, migrated if it is old, set aside if it is malformed."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from ..sqlite_files import is_malformed
from . import schema
from .database import connect
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
    path: Path
    was_malformed: bool = False
    is_new: bool = False

    def is_current(self) -> bool:
        """Tell whether this is still the store's index, and not one that was set aside, deleted, migrated."""
        try:
            return self.path.exists() and schema.version_of(self.db) == schema.VERSION
        except sqlite3.DatabaseError as error:
            return not is_malformed(error)


def open_index(layout: Layout, disk: Disk, *, durability: str, malformed: Path | None = None) -> Opened:
    """Return the index, ready to write. `malformed` is a file that SQLite has called so.

    Raises StoreVersionError if the index is newer than we are, OSError or sqlite3.Error if it is out of
    reach.
    """
    for folder in layout.folders:
        disk.make_folder(folder)
    if durability == "full":
        for folder in (layout.root, layout.root.parent, layout.root.parent.parent):
            disk.sync_folder(folder)
    with exclusive(layout.lock):
        indexes = layout.indexes()
        # Another process may have set it aside while we waited for the lock.
        if malformed in indexes and not _is_newer(malformed):
            return _start_anew(layout, disk, durability)
        for path in indexes[:-1]:
            _set_aside(path, layout, disk)  # somebody died between making a new one and this
        if not indexes:
            return _open(_create(layout), durability)
        try:
            return _open(indexes[-1], durability)
        except sqlite3.DatabaseError as error:
            if not is_malformed(error):
                raise
            log.error("the index is malformed (%s); it is set aside, and an empty one takes its place", error)
            return _start_anew(layout, disk, durability)


def _is_newer(path: Path) -> bool:
    """Tell whether a newer version has migrated it under us: what is strange to us is not damaged."""
    db = connect(path)
    try:
        return schema.version_of(db) > schema.VERSION
    except sqlite3.DatabaseError:
        return False
    finally:
        db.close()


def _start_anew(layout: Layout, disk: Disk, durability: str) -> Opened:
    old = layout.indexes()
    opened = _open(_create(layout), durability)
    opened.was_malformed = True
    for path in old:
        _set_aside(path, layout, disk)
    return opened


def _create(layout: Layout) -> Path:
    """Make an empty index that only this user can read, before SQLite sees it; its journal follows suit."""
    path = layout.new_index(time.time_ns())
    # Never opened once it is SQLite's: closing it again would drop the locks that this process holds.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    return path


def _open(path: Path, durability: str) -> Opened:
    db = connect(path, durability=durability, cache_kib=_CACHE_KIB)
    try:
        is_new = schema.version_of(db) == 0
        if is_new:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # so that `prune` can give space back
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            log.warning("the index cannot use a write-ahead log here (%s): several processes will wait", mode)
        schema.migrate(db)
        db.execute("SELECT entries FROM totals").fetchone()
        return Opened(db, path, is_new=is_new)
    except BaseException:
        db.close()
        raise


def _set_aside(path: Path, layout: Layout, disk: Disk) -> None:
    with contextlib.suppress(FileNotFoundError):
        disk.rename(path, layout.quarantine / path.name)
    for companion in _COMPANIONS:
        disk.remove(path.with_name(path.name + companion))
