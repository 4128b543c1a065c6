"""Remembers which bytes a file held, so that nobody hashes 20 GB twice. Shared by many processes.

Of a file that nobody has read it may remember how it looked when its name was first believed.

A memo may forget: any fault of the database, a busy one too, means "not known", and the file is
hashed again. What is remembered belongs to one path and everything the file system says of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from ..sqlite_files import Connection, is_malformed
from .weight_files import SeenFile

log = logging.getLogger(__name__)

FILE_NAME = "digests.sqlite3"
MAX_ROWS = 20_000

# A later layout gets another table, and both versions of us live beside each other.
_CREATE = """
CREATE TABLE IF NOT EXISTS digests_2 (
    path BLOB PRIMARY KEY, stat TEXT NOT NULL, digest TEXT NOT NULL, noted_at REAL NOT NULL
) WITHOUT ROWID
"""
_UNREAD = ""
"""Stands where the digest of a file will be that nobody has read yet."""
_HEX = re.compile(r"[0-9a-f]{64}")


class DigestMemo:
    """Digests by file, in memory and under a folder. Any thread may ask; nothing here raises."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = folder / FILE_NAME
        self._clock = clock
        self._near: dict[str, tuple[str, str]] = {}

    def find(self, files: Iterable[SeenFile]) -> dict[SeenFile, str]:
        """Return the digests that are known of these files as they are now."""
        rows: dict[SeenFile, tuple[str, str]] = {}
        known: dict[SeenFile, str] = {}
        with self._shrugging("looked up"):
            self._fill(rows, files)
        for each, (stat_words, digest) in rows.items():
            if stat_words == each.stat_words and digest != _UNREAD:
                known[each] = digest
                self._near[each.path] = (stat_words, digest)
        return known

    def may_be_believed(self, seen: SeenFile) -> bool:
        """Tell whether nobody has read this file, and it has the size, times and inode as when it was met.

        A path that nobody has met is remembered from now on, as it is now. Where that cannot be told, no.
        """
        if self._near.get(seen.path) == (seen.stat_words, _UNREAD):
            return True
        rows: dict[SeenFile, tuple[str, str]] = {}
        certain = False
        with self._shrugging("looked up"):
            self._fill(rows, [seen])
            certain = True
        if not certain:
            return False
        if seen not in rows:
            self._write({seen: _UNREAD}, "NOTHING")
            return True
        self._near[seen.path] = rows[seen]
        return rows[seen] == (seen.stat_words, _UNREAD)

    def note(self, digests: Mapping[SeenFile, str]) -> None:
        """Remember the digests of these files. The caller knows that the files had settled."""
        self._write(
            digests, "UPDATE SET stat = excluded.stat, digest = excluded.digest, noted_at = excluded.noted_at"
        )

    def _write(self, digests: Mapping[SeenFile, str], where_there_is_one: str) -> None:
        if len(self._near) + len(digests) > MAX_ROWS:
            self._near.clear()
        for seen, digest in digests.items():
            self._near[seen.path] = (seen.stat_words, digest)
        now = self._clock()
        rows = [(os.fsencode(seen.path), seen.stat_words, digest, now) for seen, digest in digests.items()]
        with self._shrugging("remembered"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened("rwc", patience=5.0) as database, database:
                database.execute(_CREATE)
                database.executemany(
                    f"INSERT INTO digests_2 VALUES (?, ?, ?, ?) ON CONFLICT (path) DO {where_there_is_one}",
                    rows,
                )
                database.execute(
                    "DELETE FROM digests_2 WHERE path IN (SELECT path FROM digests_2"
                    " ORDER BY noted_at DESC LIMIT -1 OFFSET ?)",
                    (MAX_ROWS,),
                )

    def _fill(self, rows: dict[SeenFile, tuple[str, str]], files: Iterable[SeenFile]) -> None:
        """Add what is remembered of these paths: how the file was, and its digest. Raises."""
        far = []
        for each in files:
            near = self._near.get(each.path)
            if near is not None and near[0] == each.stat_words and near[1] != _UNREAD:
                rows[each] = near
            else:
                far.append(each)  # another process may have hashed it since
                if near is not None:
                    rows[each] = near
        if far and self._path.exists():
            self._look_up(far, rows)

    def _look_up(self, files: Iterable[SeenFile], rows: dict[SeenFile, tuple[str, str]]) -> None:
        with self._opened("rw", patience=0.25) as database:
            for each in files:
                found = database.execute(
                    "SELECT stat, digest FROM digests_2 WHERE path = ?", (os.fsencode(each.path),)
                ).fetchone()
                if found is not None and (found[1] == _UNREAD or _HEX.fullmatch(str(found[1]))):
                    rows[each] = (str(found[0]), str(found[1]))

    @contextlib.contextmanager
    def _opened(self, mode: str, *, patience: float) -> Iterator[sqlite3.Connection]:
        # One connection for each visit: no thread owns one, none is left open, and visits are rare.
        database = sqlite3.connect(
            f"{self._path.as_uri()}?mode={mode}", uri=True, timeout=patience, factory=Connection
        )
        with contextlib.closing(database):
            yield database

    @contextlib.contextmanager
    def _shrugging(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.debug("digests are not %s: %s", what, error)
        except sqlite3.Error as error:
            if is_malformed(error) and "no such table" not in str(error):  # another layout's is elsewhere
                log.warning("%s is damaged (%s); it is begun anew", self._path, error)
                self._begin_anew()
            else:  # busy, read-only, full
                log.debug("digests are not %s: %s", what, error)

    def _begin_anew(self) -> None:
        # The journal first: left behind, it would be rolled back into the new database.
        for name in (f"{FILE_NAME}-journal", f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", FILE_NAME):
            with contextlib.suppress(OSError):
                self._path.with_name(name).unlink(missing_ok=True)
