"""Finds answers: in memory, among what waits to be written, on disk. Writes nothing.

An answer counts when row, fields and blob agree and its time is not over. Whatever does not agree is
a miss, a counter with a name, and a report to whoever heals.
"""

from __future__ import annotations

import sqlite3
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from ..codecs import CodecError
from ..errors import BlobCorruptError
from ..records import Encoded, Entry, Fingerprint, ResultTier
from . import fields
from .blobs import BlobMissingError, Blobs
from .database import Pool, is_busy
from .dictionaries import Dictionaries
from .healing import Damage, canonical_of
from .index import of_totals
from .memory import Held, Known, Memory
from .rows import Row, expiry, find_hit, is_fresh, time_seal
from .timekeeping import Timekeeper
from .uses import Uses
from .waiting import Ready, Waiting

_STALE_REMEMBERED = 1000

Moment = tuple[float, float]
"""By the wall clock, and by the store's time."""


class Found(NamedTuple):
    """An answer from the store."""

    content: Encoded
    entry: Entry
    tier: ResultTier


class Lookup:
    """The reading side of one open store. Any thread may call."""

    def __init__(
        self,
        *,
        quick: Pool,
        readers: Pool,
        blobs: Blobs,
        memory: Memory,
        uses: Uses,
        waiting: Mapping[str, Waiting],
        dictionaries: Dictionaries,
        time: Timekeeper,
        ttl_of: Callable[[Waiting], float | None],
        sliding_ttl: bool,
        count: Callable[[str], None],
        report: Callable[[Damage], None],
    ) -> None:
        self._quick = quick
        self._readers = readers
        self._blobs = blobs
        self._memory = memory
        self._uses = uses
        self._waiting = waiting
        self._dictionaries = dictionaries
        self._time = time
        self._ttl_of = ttl_of
        self._sliding = sliding_ttl
        self._count = count
        self._report = report
        self._stale: OrderedDict[str, None] = OrderedDict()

    def peek(self, fingerprint: Fingerprint) -> Found | None:
        """Return the answer if it is in memory. Reads no file; a miss says nothing about the disk."""
        waiting = self._waiting.get(fingerprint.key)
        if waiting is not None:
            ready = waiting.ready
            return None if ready is None else self._from_queue(fingerprint, waiting, ready)
        held = self._memory.get(fingerprint.key)
        moment = None if held is None else self._when_it_counts(fingerprint, held.known)
        if held is None or moment is None:
            return None
        return self._used(Found(held.content, held.known.entry, ResultTier.MEMORY), moment)

    def find(self, fingerprint: Fingerprint) -> Found | None:
        """Return the answer if the store has it, fresh and whole. Raises OSError and sqlite3.Error."""
        found = self.peek(fingerprint)
        if found is not None:
            return found
        waiting = self._waiting.get(fingerprint.key)
        if waiting is not None:
            try:
                return self._from_queue(fingerprint, waiting, waiting.get_ready())
            except CodecError:
                return None  # the writer will say so
        return self._by_known_row(fingerprint) or self._from_disk(fingerprint)

    def was_stale(self, fingerprint: Fingerprint) -> bool:
        """Tell whether the last look for this found an answer whose time was over."""
        return fingerprint.key in self._stale

    # Memory

    def _when_it_counts(self, fingerprint: Fingerprint, known: Known) -> Moment | None:
        """Return when what is remembered was found in the index still, and fresh; None if it was not."""
        if known.canonical != fingerprint.canonical:
            return None
        try:
            if not self._still_counts(known):
                self._memory.drop(fingerprint.key)
                return None
        except sqlite3.Error:
            return None  # the index will be asked next: it meets the same trouble, and says so
        moment = self._time.moment()
        return moment if self._is_fresh(known.entry, known.ttl_seconds, moment[1]) else None

    def _still_counts(self, known: Known) -> bool:
        """Tell whether the entry is still in the index; another process may have removed it."""
        with self._quick.lend() as db:
            generation = of_totals(db, "generation")
            if generation == known.generation:
                return True
            row = db.execute(
                "SELECT t.generation, b.digest, e.media_type, e.created_at, e.ttl_seconds, e.expires_at, "
                "e.pinned, e.time_seal FROM totals t, entries e "
                "JOIN blobs b ON b.id = e.blob WHERE e.key = ?",
                (bytes.fromhex(known.entry.key),),
            ).fetchone()
        blob = known.entry.blob
        if row is None or row[1:3] != (bytes.fromhex(blob.digest), blob.media_type):
            return False
        _, _, _, created_at, ttl, expires_at, pinned, sealed = row
        try:
            if sealed != time_seal(bytes.fromhex(known.entry.key), created_at, ttl, expires_at, pinned):
                return False
        except struct.error:
            return False  # no times at all
        known.entry = replace(known.entry, expires_at=expires_at, pinned=bool(pinned))
        known.ttl_seconds, known.generation = ttl, row[0]
        return True

    # The queue

    def _from_queue(self, fingerprint: Fingerprint, waiting: Waiting, ready: Ready) -> Found | None:
        if waiting.fingerprint.canonical != fingerprint.canonical:
            return None
        entry = waiting.entry(ready, self._ttl_of(waiting))
        moment = self._time.moment()
        if not is_fresh(entry.expires_at, moment[1]):
            self._note_stale(entry.key)
            return None
        return self._used(Found(ready.content, entry, ResultTier.MEMORY), moment)

    # The disk

    def _by_known_row(self, fingerprint: Fingerprint) -> Found | None:
        """Return the answer whose row is remembered, and whose bytes are on disk as they were."""
        known = self._memory.row(fingerprint.key)
        moment = None if known is None else self._when_it_counts(fingerprint, known)
        if known is None or moment is None:
            return None
        blob = known.entry.blob
        try:
            data = self._blobs.read(blob, known.checksum_kind, known.checksum)
        except BlobCorruptError:
            return None  # the index will be asked next, and says what is wrong
        return self._read_anew(Held(known, Encoded(blob.media_type, data)), moment)

    def _from_disk(self, fingerprint: Fingerprint) -> Found | None:
        key = fingerprint.key
        self._stale.pop(key, None)
        try:
            with self._readers.lend() as db:
                hit = find_hit(db, key)
                if hit is None:
                    return None
                row, generation = hit
                canonical = canonical_of(db, self._dictionaries, row)
        except ValueError:
            self._count("row_damaged")
            self._report(Damage(key, "row_damaged"))
            return None
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            self._count("busy")
            return None
        asked = fields.redacted(fingerprint.canonical) if row.redacted else fingerprint.canonical
        if asked != canonical:
            self._count("fields_differ")
            return None
        moment = self._time.moment()
        if not self._is_fresh(row.entry, row.ttl_seconds, moment[1]):
            self._note_stale(key)
            return None
        data = self._read(row)
        if data is None:
            return None
        known = Known(
            row.entry, fingerprint.canonical, row.ttl_seconds, row.checksum_kind, row.checksum, generation
        )
        return self._read_anew(Held(known, Encoded(row.entry.blob.media_type, data)), moment)

    def _read_anew(self, held: Held, moment: Moment) -> Found:
        entry = held.known.entry
        self._memory.put(entry.key, held)
        return self._used(Found(held.content, entry, ResultTier.DISK), moment)

    def _read(self, row: Row) -> bytes | None:
        key = row.entry.key
        try:
            return self._blobs.read(row.entry.blob, row.checksum_kind, row.checksum)
        except BlobMissingError:
            if self._is_gone(row):
                return None  # evicted between the row and the file: an ordinary miss
            self._count("blob_missing")
            self._report(Damage(key, "blob_missing"))
        except BlobCorruptError:
            self._count("corrupt")
            self._report(Damage(key, "corrupt"))
        return None

    def _is_gone(self, row: Row) -> bool:
        with self._readers.lend() as db:
            again = db.execute("SELECT blob FROM entries WHERE id = ?", (row.id,)).fetchone()
        return again is None or again[0] != row.blob_id

    # Time and use

    def _is_fresh(self, entry: Entry, ttl_seconds: float | None, now: float) -> bool:
        if is_fresh(entry.expires_at, now):
            return True
        use = self._uses.last(entry.key) if self._sliding else None
        # A use that the index has not heard of yet started a sliding time again.
        return use is not None and is_fresh(expiry(ttl_seconds, use.now), now)

    def _note_stale(self, key: str) -> None:
        self._stale[key] = None
        while len(self._stale) > _STALE_REMEMBERED:
            try:
                self._stale.popitem(last=False)
            except KeyError:
                break

    def _used(self, found: Found, moment: Moment) -> Found:
        self._stale.pop(found.entry.key, None)
        self._uses.note(found.entry.key, *moment)
        return found
