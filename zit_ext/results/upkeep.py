"""What makes the store right again after a crash, and keeps it right while it is idle.

At open: rows of work that was cut short say what to finish; no folder is searched. In idle moments,
step by step: what is stale goes, lowered caps are reached, a new policy's scores are computed, and the
folders are searched for files that no row knows.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable

from ..errors import PluginError
from . import index
from .blobs import Blobs
from .database import hex_of, transaction
from .healing import put_aside
from .layout import FAN_OUT, Layout, is_digest
from .owners import Owner
from .room import Room
from .rows import SELECT_ROWS, read_row
from .scribe import Scribe, doom_unknown

_BATCH = 200
_QUARANTINE_SECONDS = 7 * 86_400.0
_STALE = "SELECT id, key FROM entries WHERE expires_at IS NOT NULL AND expires_at <= ? LIMIT ?"


class Upkeep:
    """Housekeeping of one index. Runs on the writer's thread."""

    def __init__(
        self,
        db: sqlite3.Connection,
        layout: Layout,
        blobs: Blobs,
        room: Room,
        scribe: Scribe,
        owner: Owner,
        *,
        wall: Callable[[], float],
        gone: Callable[[str], None],
        count: Callable[[str], None],
    ) -> None:
        self._db = db
        self._layout = layout
        self._blobs = blobs
        self._room = room
        self._scribe = scribe
        self._owner = owner
        self._wall = wall
        self._gone = gone
        self._count = count

    # After a crash

    def recover(self) -> bool:
        """Finish what stores that died had begun: half-written blobs, half-deleted ones, claims.

        Tells whether any had died. Searches no folder of blobs.
        """
        dead = self._owner.bury_the_dead()
        with transaction(self._db):
            for id, digest, size, owner in self._db.execute(
                "SELECT id, digest, size, owner FROM reservations"
            ).fetchall():
                # Our own thread is here, and not writing: what it could not take back is taken back now.
                if owner == self._owner.token or not self._owner.is_alive(owner):
                    index.unreserve(self._db, id)
                    self._doom_if_file(digest, size)
                    self._count("recovered")
            for key, owner in self._db.execute("SELECT key, owner FROM claims").fetchall():
                if not self._owner.is_alive(owner):
                    self._db.execute("DELETE FROM claims WHERE key = ?", (key,))
        self._sweep_incoming()
        self._count_quarantine()
        self._room.reap()
        return bool(dead)

    def _doom_if_file(self, digest: bytes, size: int) -> None:
        if self._layout.blob(hex_of(digest)).exists():
            doom_unknown(self._db, digest, size)

    def _sweep_incoming(self) -> None:
        for path in self._layout.incoming.iterdir():
            owner = path.name.split("-")[0]
            if owner == self._owner.token or not self._owner.is_alive(owner):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _count_quarantine(self) -> None:
        """Count what a process set aside and died before it could say so; forget what somebody deleted."""
        with transaction(self._db):
            known = dict(self._db.execute("SELECT name, size FROM aside"))
            there = set()
            with os.scandir(self._layout.quarantine) as files:
                for file in files:
                    there.add(file.name)
                    size = file.stat(follow_symlinks=False).st_size
                    if file.name in known and known[file.name] != size:
                        self._db.execute("DELETE FROM aside WHERE name = ?", (file.name,))
                    put_aside(self._db, (file.name, size), "found here", self._wall())
            self._db.executemany(
                "DELETE FROM aside WHERE name = ?", [(name,) for name in known.keys() - there]
            )

    # In idle moments

    def adopt_policy(self, policy: str) -> None:
        """Make this the store's policy; if it was another's, every score has to be computed anew."""
        with transaction(self._db):
            self._db.execute(
                "UPDATE totals SET policy = ?, floor = 0, rescored = 0 WHERE policy <> ?", (policy, policy)
            )

    def rescore(self) -> bool:
        """Compute some scores of a new policy; tell whether more are to do."""
        if index.of_totals(self._db, "rescored") is None:
            return False
        with transaction(self._db):
            done = index.of_totals(self._db, "rescored") or 0
            totals = index.totals(self._db)
            found = self._db.execute(
                SELECT_ROWS + "WHERE e.id > ? ORDER BY e.id LIMIT ?", (done, _BATCH)
            ).fetchall()
            for values in found:
                done = values[0]
                try:
                    score = self._scribe.score_of(totals.policy, read_row(values).entry, totals.floor)
                except (PluginError, ValueError):
                    self._count("not_rescored")
                    continue
                self._db.execute("UPDATE entries SET score = ? WHERE id = ?", (score, done))
            self._db.execute("UPDATE totals SET rescored = ?", (done if found else None,))
            return bool(found)

    def remove_stale(self, before: float) -> int:
        """Remove some entries whose time was over at that moment; return how many, 0 at the end."""
        if self._db.execute(_STALE, (before, 1)).fetchone() is None:
            return 0
        with transaction(self._db):
            stale = self._db.execute(_STALE, (before, _BATCH)).fetchall()
            index.remove_entries(self._db, [id for id, _ in stale])
        for _, key in stale:
            self._gone(hex_of(key))
            self._count("expired")
        self._room.reap()
        return len(stale)

    def sweep_folder(self, folder: str) -> int:
        """Let go of the files in one fan-out folder that no row knows; return how many."""
        try:
            names = [path.name for path in (self._layout.blobs / folder).iterdir()]
        except FileNotFoundError:
            return 0
        low, high = bytes.fromhex(folder) + bytes(31), bytes.fromhex(folder) + b"\xff" * 31
        known = {
            hex_of(row[0])
            for row in self._db.execute("SELECT digest FROM blobs WHERE digest BETWEEN ? AND ?", (low, high))
        }
        strangers = [name for name in names if name not in known]
        if not strangers:
            return 0
        with transaction(self._db):
            went = sum(self._let_go(folder, name) for name in strangers)
        self._room.reap()
        return went

    def _let_go(self, folder: str, name: str) -> bool:
        path = self._layout.blobs / folder / name
        try:
            if is_digest(name) and name[:2] == folder:
                if not doom_unknown(self._db, bytes.fromhex(name), path.lstat().st_size):
                    return False  # a writer was quicker than we
            else:
                put_aside(self._db, self._blobs.set_file_aside(path), "no blob's name", self._wall())
        except FileNotFoundError:
            return False
        self._count("orphan")
        return True

    def sweep(self) -> int:
        """Search all folders for files that no row knows, and let them go; return how many."""
        went = sum(self.sweep_folder(folder) for folder in FAN_OUT)
        self.note_swept()
        return went

    def note_swept(self) -> None:
        self._db.execute("UPDATE totals SET swept_at = ?", (self._wall(),))

    def last_swept(self) -> float:
        """Return when the folders were last searched; Unix seconds."""
        found: float = index.of_totals(self._db, "swept_at")
        return found

    def empty_quarantine(self, older_than: float = 0.0) -> int:
        """Delete what lies in quarantine for so many seconds; return how many files."""
        before = self._wall() - older_than
        files = self._db.execute("SELECT name FROM aside WHERE at <= ?", (before,)).fetchall()
        if files:
            with transaction(self._db):
                for (name,) in files:
                    self._blobs.remove_aside(name)
                    self._db.execute("DELETE FROM aside WHERE name = ?", (name,))
        return len(files)

    def give_space_back(self) -> None:
        """Shrink the index to what it needs."""
        # As a script: `execute` would stop after the first page.
        self._db.executescript("PRAGMA incremental_vacuum;")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def empty_old_quarantine(self) -> int:
        """Delete what has been in quarantine for a week: nobody looked at it."""
        return self.empty_quarantine(_QUARANTINE_SECONDS)
