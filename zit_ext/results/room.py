"""Makes room: within the caps of bytes and entries, the least worth goes first.

Bytes are counted before they are written and until they are deleted, by every process in the same
transaction that checks the cap: the disk never holds more than the cap says. An entry goes in two
steps: first its row, and its blob is doomed; then the file, and the doomed row with it. Killed in
between, the next open finds the doomed row and ends the work.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import NamedTuple

from ..errors import StoreFullError
from . import index
from .blobs import Blobs
from .database import RowsDamagedError, hex_of, transaction
from .mending import SUMS, broken

_BATCH = 32
_ATTEMPTS = 200
_PAUSE_SECONDS = 0.01
_MOST_AT_ONCE = 64


class Caps(NamedTuple):
    """What a store may hold; 0 means without limit."""

    max_bytes: int
    max_entries: int


class Room:
    """Keeps one store within its caps. Runs on the writer's thread and connection."""

    def __init__(
        self,
        db: sqlite3.Connection,
        blobs: Blobs,
        caps: Caps,
        *,
        owner: str,
        surely: Callable[[], float],
        gone: Callable[[str], None],
        count: Callable[[str], None],
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._caps = caps
        self._owner = owner
        self._surely = surely
        self._gone = gone
        self._count = count

    def reserve(self, digest: str, size: int, namespace: str) -> int:
        """Promise these bytes to the caller, whatever has to go for them. Returns the promise's number.

        Raises StoreFullError if they cannot fit.
        """
        if self._caps.max_bytes and size > self._caps.max_bytes:
            self._count("larger_than_cap")
            raise StoreFullError(size, f"the store holds {self._caps.max_bytes:,} bytes in all")
        space = index.find_namespace(self._db, namespace)
        if space is not None and 0 < space.max_bytes < size:
            self._count("larger_than_cap")
            raise StoreFullError(size, f"namespace {namespace!r} holds {space.max_bytes:,} bytes in all")
        for _ in range(_ATTEMPTS):
            self.reap()
            with transaction(self._db):
                over = self._bytes_over(size)
                if over <= 0:
                    return index.reserve(self._db, digest, size, self._owner)
                if size + self._pinned_bytes() > self._caps.max_bytes:
                    break  # before anything goes for nothing
                over -= self._doomed_bytes()
                if over > 0:
                    if self._make_bytes(over):
                        continue
                    if self._db.execute("SELECT 1 FROM reservations LIMIT 1").fetchone() is None:
                        break
            time.sleep(_PAUSE_SECONDS)  # another process writes or reads what we wait for
        self._must_be_right()
        self._count("full")
        raise StoreFullError(size, self._why_full())

    def keep_within_caps(self, namespace: str, size: int, keep: int) -> None:
        """Evict what is too many, inside the caller's transaction; `keep` is the entry that just came.

        Raises StoreFullError if nothing else may go.
        """
        # Caps that were lowered by far are reached step by step, by `trim`: nobody waits for all of it.
        for _ in range(_MOST_AT_ONCE):
            reason, space = self._over(namespace)
            if reason is None:
                return
            if self._evict_lowest(reason, keep=keep, space=space) is None:
                self._must_be_right()
                self._count("full")
                raise StoreFullError(size, self._why_full())

    def trim_namespace(self, namespace: str, steps: int = 32) -> bool:
        """Go some steps towards a namespace's own caps; tell whether more is to do."""
        went = False
        with transaction(self._db):
            for _ in range(steps):
                reason, space = self._over(namespace)
                went = reason is not None and self._evict_lowest(reason, space=space) is not None
                if not went:
                    break
        self.reap()
        return went

    def _over(self, namespace: str) -> tuple[str | None, int | None]:
        """Return under which name something has to go, and from which namespace; None if nothing has to."""
        if self._caps.max_entries and index.totals(self._db).entries > self._caps.max_entries:
            return "evicted_by_entries", None
        space = index.namespace_of(self._db, namespace)
        if space.max_entries and space.entries > space.max_entries:
            return "evicted_by_entries", space.id
        if space.max_bytes and space.bytes > space.max_bytes:
            return "evicted_by_bytes", space.id
        return None, None

    def _bytes_over(self, incoming: int) -> int:
        limit = self._caps.max_bytes
        return index.totals(self._db).all_bytes + incoming - limit if limit else 0

    def trim(self, steps: int = 32) -> int:
        """Go some steps towards caps that were lowered; return how many, 0 at the end."""
        if not self._trimmable():
            return 0
        went = 0
        with transaction(self._db):
            while went < steps and self._trim_one():
                went += 1
        self.reap()
        return went

    def _trimmable(self) -> bool:
        totals = index.totals(self._db)
        return 0 < self._caps.max_entries < totals.entries or 0 < self._caps.max_bytes < totals.all_bytes

    def _trim_one(self) -> bool:
        if 0 < self._caps.max_entries < index.totals(self._db).entries:
            return self._evict_lowest("evicted_by_entries") is not None
        over = self._bytes_over(0) - self._doomed_bytes()
        return over > 0 and self._make_bytes(over)

    def _doomed_bytes(self) -> int:
        found: int = self._db.execute("SELECT coalesce(sum(size), 0) FROM blobs WHERE doomed").fetchone()[0]
        return found

    def reap(self) -> int:
        """Delete the files of doomed blobs, then their rows; return how many went."""
        went = 0
        while True:
            if self._db.execute("SELECT 1 FROM blobs WHERE doomed LIMIT 1").fetchone() is None:
                return went
            with transaction(self._db):
                doomed = self._db.execute(
                    "SELECT id, digest FROM blobs WHERE doomed LIMIT ?", (_BATCH,)
                ).fetchall()
                removed = [each for each in doomed if self._remove_file(each[1])]
                self._db.executemany("DELETE FROM blobs WHERE id = ?", [(id,) for id, _ in removed])
            went += len(removed)
            if len(removed) < len(doomed) or not doomed:
                return went

    def _remove_file(self, digest: bytes) -> bool:
        # Somebody who is writing the same bytes again will find the row doomed, and revive it.
        if index.is_reserved(self._db, digest):
            return False
        try:
            self._blobs.remove(hex_of(digest))
        except OSError:
            self._count("delete_postponed")  # Windows, while a reader has the file open
            return False
        return True

    def _make_bytes(self, wanted: int) -> bool:
        """Let go of things, damaged and stale ones first, until so many bytes are on their way.

        Tells whether any are.
        """
        freed = self._empty_quarantine(wanted)
        while freed < wanted:
            bytes_of_one = self._remove_stale()
            if bytes_of_one is None:
                bytes_of_one = self._evict_lowest("evicted_by_bytes")
            if bytes_of_one is None:
                break
            freed += bytes_of_one
        return freed > 0

    def _empty_quarantine(self, wanted: int) -> int:
        freed = 0
        rows = self._db.execute("SELECT name, size FROM aside ORDER BY at LIMIT ?", (_BATCH,)).fetchall()
        for name, size in rows:
            if freed >= wanted:
                break
            try:
                self._blobs.remove_aside(name)
            except OSError:
                self._count("delete_postponed")
                continue
            self._db.execute("DELETE FROM aside WHERE name = ?", (name,))
            self._count("quarantine_emptied")
            freed += size
        return freed

    def _remove_stale(self) -> int | None:
        row = self._db.execute(
            "SELECT id, key, blob FROM entries WHERE expires_at IS NOT NULL AND expires_at <= ? "
            "ORDER BY expires_at LIMIT 1",
            (self._surely(),),
        ).fetchone()
        if row is None:
            return None
        id, key, blob = row
        return self._remove(id, key, blob, "expired")

    def _evict_lowest(self, reason: str, *, keep: int | None = None, space: int | None = None) -> int | None:
        """Evict the entry that is worth least; return the bytes that this frees, or None if all must stay."""
        where, values = ("", ()) if space is None else ("AND namespace = ? ", (space,))
        row = self._db.execute(
            f"SELECT id, key, blob, score FROM entries WHERE NOT pinned AND id IS NOT ? {where}"
            "ORDER BY score LIMIT 1",
            (keep, *values),
        ).fetchone()
        if row is None:
            return None
        id, key, blob, score = row
        freed = self._remove(id, key, blob, reason)
        # Only what the caps evict moves the floor: age and hand say nothing about worth.
        self._db.execute("UPDATE totals SET floor = ? WHERE floor < ?", (score, score))
        return freed

    def _remove(self, id: int, key: bytes, blob: int, reason: str) -> int:
        index.remove_entries(self._db, [id])
        self._gone(hex_of(key))
        self._count(reason)
        row = self._db.execute("SELECT size FROM blobs WHERE id = ? AND doomed", (blob,)).fetchone()
        return 0 if row is None else row[0]

    def _must_be_right(self) -> None:
        """Raise RowsDamagedError if it is only by a wrong sum that nothing fits."""
        if broken(self._db, SUMS):
            raise RowsDamagedError("the sums of the store are wrong")

    def _pinned_bytes(self) -> int:
        found: int = self._db.execute(
            "SELECT coalesce(sum(size), 0) FROM blobs WHERE id IN (SELECT blob FROM entries WHERE pinned)"
        ).fetchone()[0]
        return found

    def _why_full(self) -> str:
        pinned = self._db.execute("SELECT count(*) FROM entries WHERE pinned").fetchone()[0]
        if pinned:
            return f"{pinned:,} pinned entries fill the store; unpin some, or raise the cap"
        return "what fills the store is in use just now"
