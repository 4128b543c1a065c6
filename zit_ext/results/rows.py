"""Rows of the index as records. A row that does not hang together is damaged, and never an answer."""

from __future__ import annotations

import math
import sqlite3
import struct
import zlib
from typing import Any, NamedTuple

from ..records import Blob, Entry
from .database import RowsDamagedError

_ENTRY = (
    "e.id, e.key, n.name, e.created_at, e.used_at, e.sequence, e.uses, e.ttl_seconds, e.expires_at, e.cost, "
    "e.pinned, e.seal, e.time_seal, b.id, b.digest, b.size, e.media_type, e.content_digest, b.checksum_kind, "
    "b.checksum, d.fields, d.dictionary, d.redacted, d.model, d.prompt"
)
_FROM = (
    "FROM entries e JOIN namespaces n ON n.id = e.namespace "
    "JOIN blobs b ON b.id = e.blob JOIN details d ON d.id = e.id "
)
SELECT_ROWS = f"SELECT {_ENTRY} {_FROM}"
_SELECT_HIT = f"SELECT (SELECT generation FROM totals), {_ENTRY} {_FROM} WHERE e.key = ?"
_NUMBER, _MAYBE_NUMBER, _MAYBE_TEXT = (int, float), (int, float, type(None)), (str, type(None))
_KINDS: tuple[Any, ...] = (
    int, bytes, str, _NUMBER, _NUMBER, int, int, _MAYBE_NUMBER, _MAYBE_NUMBER, _NUMBER,
    int, int, int, int, bytes, int, str, bytes, str, bytes,
    bytes, int, int, str, _MAYBE_TEXT,
)  # fmt: skip
"""What SQLite's columns may hold, in the order of `_ENTRY`: SQLite itself lets anything into any of them."""
_SEEN_TYPES: set[tuple[type, ...]] = set()
"""Types of whole rows that fit `_KINDS`: a few, and every hit asks."""


class Row(NamedTuple):
    """Everything that the index says about one entry."""

    id: int
    entry: Entry
    ttl_seconds: float | None
    seal: int
    blob_id: int
    checksum_kind: str
    checksum: bytes
    fields: bytes
    """Packed; see `fields.unpack`."""
    dictionary: int
    redacted: bool

    def is_whole(self, canonical: bytes) -> bool:
        """Tell whether key, fields and blob are still those that were written together."""
        entry = self.entry
        return self.seal == seal(entry.key, entry.blob, entry.content_digest, canonical)


def seal(key: str, blob: Blob, content_digest: str, canonical: bytes) -> int:
    """Return a checksum over what a hit relies on, so that a flipped bit of a row shows.

    Not over the blob's own checksum: that one shows by itself, and machines have different kinds.
    """
    head = f"{key} {blob.digest} {blob.size} {blob.media_type} {content_digest} ".encode()
    return zlib.crc32(canonical, zlib.crc32(head))


def time_seal(
    key: bytes, created_at: float, ttl_seconds: float | None, expires_at: float | None, pinned: int
) -> int:
    """Return a checksum over what says how long an entry is fresh: no flipped bit makes it immortal."""
    times = [math.nan if each is None else each for each in (created_at, ttl_seconds, expires_at)]
    return zlib.crc32(struct.pack("<ddd?", *times, pinned), zlib.crc32(key))


def find_row(db: sqlite3.Connection, key: str) -> Row | None:
    """Return the row of this key, if there is one."""
    values = db.execute(SELECT_ROWS + "WHERE e.key = ?", (bytes.fromhex(key),)).fetchone()
    return None if values is None else read_row(values)


def find_hit(db: sqlite3.Connection, key: str) -> tuple[Row, int] | None:
    """Return the row of this key and the generation of the index, as both are at one moment.

    Raises ValueError as `read_row`, and RowsDamagedError where the index knows no generation.
    """
    values = db.execute(_SELECT_HIT, (bytes.fromhex(key),)).fetchone()
    if values is None:
        return None
    generation = values[0]
    if type(generation) is not int:
        raise RowsDamagedError("the sums of the store are gone")
    return read_row(values[1:]), generation


def read_row(values: tuple[Any, ...]) -> Row:
    """Return one row of `SELECT_ROWS`. Raises ValueError if it holds what no row can hold."""
    types = tuple(map(type, values))
    if types not in _SEEN_TYPES:
        if not all(isinstance(value, kinds) for value, kinds in zip(values, _KINDS, strict=True)):
            raise ValueError("a row of the index is damaged")
        _SEEN_TYPES.add(types)
    (
        id, key, namespace, created_at, used_at, sequence, uses, ttl, expires_at, cost,
        pinned, sealed, time_sealed, blob_id, digest, size, media_type, content_digest, kind, checksum,
        packed, dictionary, redacted, model, prompt,
    ) = values  # fmt: skip
    if time_sealed != time_seal(key, created_at, ttl, expires_at, pinned):
        raise ValueError("the times of a row are damaged")
    entry = Entry(
        key=key.hex(),
        blob=Blob(digest.hex(), size, media_type),
        content_digest=content_digest.hex(),
        namespace=namespace,
        created_at=created_at,
        used_at=used_at,
        sequence=sequence,
        uses=uses,
        expires_at=expires_at,
        cost=cost,
        pinned=bool(pinned),
        model=model,
        prompt=prompt,
    )
    return Row(
        id, entry, ttl, sealed, blob_id, kind, checksum, packed, dictionary, bool(redacted)
    )  # fmt: skip


def is_fresh(expires_at: float | None, now: float) -> bool:
    """Tell whether an entry may still answer."""
    return expires_at is None or now < expires_at


def expiry(ttl_seconds: float | None, now: float) -> float | None:
    """Return when a time to live that starts now is over; None or 0 is for ever."""
    return now + ttl_seconds if ttl_seconds else None
