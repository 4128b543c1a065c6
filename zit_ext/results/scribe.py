"""Writes results and their uses down. Runs on the writer's thread, one piece of work at a time.

The order of a write is the whole of its safety: the bytes are reserved, the file is written under
another name, synced and renamed, and only then does a row say that it is there.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import BlobCorruptError, PluginError, StoreError
from ..records import Entry
from . import checksums, fields, index
from .blobs import Blobs
from .database import transaction
from .dictionaries import Dictionaries
from .memory import Held, Known
from .room import Room
from .rows import Row, expiry, find_row, seal
from .uses import Use
from .waiting import Ready, Waiting, choose_ttl

Score = Callable[[str, Entry, float], float]

_TRIES = 3
_FLUSH_BATCH = 500


class Scribe:
    """Writes into one index."""

    def __init__(
        self,
        db: sqlite3.Connection,
        blobs: Blobs,
        room: Room,
        dictionaries: Dictionaries,
        *,
        score: Score,
        default_ttl: float,
        sliding_ttl: bool,
        store_prompts: bool,
        count: Callable[[str], None],
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._room = room
        self._dictionaries = dictionaries
        self._score = score
        self._default_ttl = default_ttl
        self._sliding = sliding_ttl
        self._store_prompts = store_prompts
        self._count = count

    def write(self, waiting: Waiting, ready: Ready) -> Held:
        """Write one result down; return it as the memory tier may hold it.

        Raises StoreError, PluginError, OSError and sqlite3.Error; then nothing of it stays.
        """
        for _ in range(_TRIES):
            reservation = None
            if not self._is_there(ready):
                reservation = self._room.reserve(ready.blob.digest, ready.blob.size, waiting.namespace)
            try:
                if reservation is not None:
                    self._blobs.write(ready.blob.digest, ready.content.data)
                with transaction(self._db):
                    held = self._write_rows(waiting, ready, reservation)
            except BaseException:
                if reservation is not None:
                    self.take_back(reservation, ready)
                raise
            self._room.reap()
            if held is not None:
                return held
        raise StoreError("the same picture was removed by others as often as it was written")

    def take_back(self, reservation: int, ready: Ready) -> None:
        """Give back what was reserved, and let the file go if nothing points at it."""
        with transaction(self._db):
            index.unreserve(self._db, reservation)
            doom_unknown(self._db, bytes.fromhex(ready.blob.digest), ready.blob.size)
        self._room.reap()

    def flush(self, uses: Sequence[Use]) -> None:
        """Write down who was used, how often, and in which order."""
        for start in range(0, len(uses), _FLUSH_BATCH):
            with transaction(self._db):
                totals = index.totals(self._db)
                for use in uses[start : start + _FLUSH_BATCH]:
                    self._write_use(use, totals.policy, totals.floor)

    def score_of(self, policy: str, entry: Entry, floor: float) -> float:
        """Return what the entry is worth. Raises PluginError if that is no number."""
        score = self._score(policy, entry, floor)
        if not math.isfinite(score):
            raise PluginError(policy, f"the eviction score {score} is no finite number")
        return score

    def _is_there(self, ready: Ready) -> bool:
        """Tell whether another entry's blob holds these bytes, and holds them whole."""
        if index.blob_id(self._db, ready.blob.digest) is None:
            return False
        try:
            self._blobs.read(ready.blob, checksums.KIND, ready.checksum)
        except (BlobCorruptError, OSError):
            return False  # written again, over the damage
        return True

    def _write_rows(self, waiting: Waiting, ready: Ready, reservation: int | None) -> Held | None:
        db, key = self._db, waiting.fingerprint.key
        if reservation is None:
            blob = index.blob_id(db, ready.blob.digest)
            if blob is None:
                return None  # its last entry went while we looked at the file
        else:
            blob = index.put_blob(db, ready.blob, checksums.KIND, ready.checksum)
            index.unreserve(db, reservation)
        space = index.namespace_of(db, waiting.namespace)
        ttl = choose_ttl(waiting, space.ttl_seconds, self._default_ttl)
        try:
            before = find_row(db, key)
        except ValueError:
            before = None  # damaged; it is written over
        entry = waiting.entry(ready, ttl)
        entry = replace(entry, sequence=index.next_sequence(db), prompt=self._prompt(entry))
        if before is not None:
            pinned = entry.pinned or before.entry.pinned
            expires_at = None if pinned else entry.expires_at
            entry = replace(entry, uses=before.entry.uses, pinned=pinned, expires_at=expires_at)
        totals = index.totals(db)
        canonical = self._stored_form(waiting)
        row = index.put_entry(
            db,
            entry,
            namespace=space.id,
            blob=blob,
            ttl_seconds=ttl,
            score=self.score_of(totals.policy, entry, totals.floor),
            seal=seal(key, ready.blob, ready.content_digest, canonical),
        )
        packed, dictionary = self._dictionaries.pack(db, canonical)
        index.put_details(
            db,
            row,
            packed,
            dictionary,
            redacted=waiting.redacted or not self._store_prompts,
            model=entry.model,
            prompt=entry.prompt,
        )
        self._room.keep_within_caps(waiting.namespace, ready.blob.size, row)
        generation = index.totals(db).generation
        known = Known(entry, waiting.fingerprint.canonical, ttl, checksums.KIND, ready.checksum, generation)
        return Held(known, ready.content)

    def _prompt(self, entry: Entry) -> str | None:
        return entry.prompt if self._store_prompts else None

    def _stored_form(self, waiting: Waiting) -> bytes:
        canonical = waiting.fingerprint.canonical
        return canonical if self._store_prompts else fields.redacted(canonical)

    def _write_use(self, use: Use, policy: str, floor: float) -> None:
        try:
            row = find_row(self._db, use.key)
        except ValueError:
            return
        if row is None:
            return  # it went meanwhile
        self._db.execute(
            "UPDATE totals SET hits = hits + ?, saved_seconds = saved_seconds + ?",
            (use.times, use.times * row.entry.cost - use.saved_before),
        )
        entry = replace(
            row.entry,
            uses=row.entry.uses + use.times,
            used_at=max(row.entry.used_at, use.used_at),
            sequence=index.next_sequence(self._db),
            expires_at=self._extended(row, use),
        )
        self._db.execute(
            "UPDATE entries SET uses = ?, used_at = ?, sequence = ?, saved_before = saved_before + ? "
            "WHERE id = ?",
            (entry.uses, entry.used_at, entry.sequence, use.saved_before, row.id),
        )
        if entry.expires_at != row.entry.expires_at:
            index.set_time(self._db, row, entry.expires_at, pinned=entry.pinned)
        try:
            score = self.score_of(policy, entry, floor)
        except PluginError:
            self._count("not_rescored")
        else:
            self._db.execute("UPDATE entries SET score = ? WHERE id = ?", (score, row.id))

    def _extended(self, row: Row, use: Use) -> float | None:
        expires_at = row.entry.expires_at
        if not self._sliding or expires_at is None:
            return expires_at
        return max(expires_at, expiry(row.ttl_seconds, use.now) or expires_at)


def doom_unknown(db: sqlite3.Connection, digest: bytes, size: int) -> bool:
    """Count a file that no row knows, and let it go: a doomed blob that nobody ever pointed at."""
    known = db.execute("SELECT 1 FROM blobs WHERE digest = ?", (digest,)).fetchone()
    if known is not None or index.is_reserved(db, digest):
        return False
    db.execute(
        "INSERT INTO blobs (digest, size, checksum_kind, checksum, doomed) VALUES (?, ?, ?, x'', 1)",
        (digest, size, checksums.SHA256),
    )
    return True
