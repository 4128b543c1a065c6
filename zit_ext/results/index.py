"""The statements that change the index. Each function is one step inside somebody's transaction."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..records import Blob, Entry
from .database import RowsDamagedError
from .mending import MOST
from .rows import SELECT_ROWS, Row, read_row, time_seal


class Totals(NamedTuple):
    """What the whole store holds. Bytes are on disk, or promised to be."""

    entries: int
    bytes: int
    aside_bytes: int
    reserved_bytes: int
    policy: str
    floor: float
    sequence: int
    generation: int

    @property
    def all_bytes(self) -> int:
        return self.bytes + self.aside_bytes + self.reserved_bytes


class Namespace(NamedTuple):
    """What one namespace holds and may hold."""

    id: int
    name: str
    entries: int
    bytes: int
    ttl_seconds: float | None
    max_bytes: int
    max_entries: int


def totals(db: sqlite3.Connection) -> Totals:
    row = db.execute(
        "SELECT entries, bytes, aside_bytes, (SELECT coalesce(sum(size), 0) FROM reservations), "
        "policy, floor, sequence, generation FROM totals"
    ).fetchone()
    if row is None or not _are_sums(*row[:4], row[6]) or not isinstance(row[5], float):
        raise RowsDamagedError("the sums of the store are no sums")
    return Totals(*row)


def of_totals(db: sqlite3.Connection, column: str) -> Any:
    """Return one value that is true of the whole store."""
    row = db.execute(f"SELECT {column} FROM totals").fetchone()
    if row is None:
        raise RowsDamagedError("the sums of the store are gone")
    return row[0]


def _are_sums(*values: object) -> bool:
    return all(type(value) is int and 0 <= value <= MOST for value in values)


def find_namespace(db: sqlite3.Connection, name: str) -> Namespace | None:
    row = db.execute(
        "SELECT id, name, entries, bytes, ttl_seconds, max_bytes, max_entries FROM namespaces WHERE name = ?",
        (name,),
    ).fetchone()
    return None if row is None else _namespace(row)


def all_namespaces(db: sqlite3.Connection) -> list[Namespace]:
    found = db.execute(
        "SELECT id, name, entries, bytes, ttl_seconds, max_bytes, max_entries FROM namespaces ORDER BY name"
    )
    return [_namespace(row) for row in found]


def _namespace(row: tuple[Any, ...]) -> Namespace:
    space = Namespace(*row)
    limits_are_whole = space.ttl_seconds is None or isinstance(space.ttl_seconds, float)
    if not (limits_are_whole and _are_sums(space.entries, space.bytes, space.max_bytes, space.max_entries)):
        raise RowsDamagedError("a namespace's sums or limits are no numbers")
    return space


def namespace_of(db: sqlite3.Connection, name: str) -> Namespace:
    """Return the namespace, made if it was not there."""
    found = find_namespace(db, name)
    if found is None:
        db.execute("INSERT INTO namespaces (name) VALUES (?)", (name,))
        found = find_namespace(db, name)
        assert found is not None
    return found


# Blobs


def blob_id(db: sqlite3.Connection, digest: str) -> int | None:
    """Return the row of a blob that may be used: there, and not doomed."""
    row = db.execute(
        "SELECT id FROM blobs WHERE digest = ? AND NOT doomed", (bytes.fromhex(digest),)
    ).fetchone()
    return None if row is None else row[0]


def find_blob(db: sqlite3.Connection, digest: str) -> Blob | None:
    row = db.execute(
        "SELECT b.size, e.media_type FROM blobs b JOIN entries e ON e.blob = b.id WHERE b.digest = ? LIMIT 1",
        (bytes.fromhex(digest),),
    ).fetchone()
    return None if row is None else Blob(digest, *row)


def find_blob_of(db: sqlite3.Connection, digest: str, namespace: str | None) -> tuple[Blob, float] | None:
    """Return the blob that an entry of this namespace (or of any) points at, and the least that one cost."""
    row = db.execute(
        "SELECT b.size, e.media_type, e.cost FROM blobs b JOIN entries e ON e.blob = b.id "
        "JOIN namespaces n ON n.id = e.namespace WHERE b.digest = ? AND (? IS NULL OR n.name = ?) "
        "ORDER BY e.cost LIMIT 1",
        (bytes.fromhex(digest), namespace, namespace),
    ).fetchone()
    return None if row is None else (Blob(digest, *row[:2]), row[2])


def keys_of_blob(db: sqlite3.Connection, digest: str) -> list[str]:
    """Return the keys of the entries that point at this blob."""
    found = db.execute(
        "SELECT e.key FROM entries e JOIN blobs b ON b.id = e.blob WHERE b.digest = ?",
        (bytes.fromhex(digest),),
    )
    return [row[0].hex() for row in found]


def put_blob(db: sqlite3.Connection, blob: Blob, kind: str, checksum: bytes) -> int:
    """Write down a blob whose file is in its place, and return its row."""
    digest = bytes.fromhex(blob.digest)
    row = db.execute("SELECT id FROM blobs WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        cursor = db.execute(
            "INSERT INTO blobs (size, checksum_kind, checksum, digest) VALUES (?, ?, ?, ?)",
            (blob.size, kind, checksum, digest),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid
    # Doomed, or written by two at once: the file is whole now, whoever wrote it.
    db.execute(
        "UPDATE blobs SET size = ?, checksum_kind = ?, checksum = ?, doomed = 0 WHERE id = ?",
        (blob.size, kind, checksum, row[0]),
    )
    found: int = row[0]
    return found


def reserve(db: sqlite3.Connection, digest: str, size: int, owner: str) -> int:
    """Promise bytes to a writer, and return the promise's number."""
    cursor = db.execute(
        "INSERT INTO reservations (digest, size, owner) VALUES (?, ?, ?)",
        (bytes.fromhex(digest), size, owner),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def unreserve(db: sqlite3.Connection, reservation: int) -> None:
    db.execute("DELETE FROM reservations WHERE id = ?", (reservation,))


def is_reserved(db: sqlite3.Connection, digest: bytes) -> bool:
    """Tell whether somebody is writing this blob just now."""
    return db.execute("SELECT 1 FROM reservations WHERE digest = ?", (digest,)).fetchone() is not None


# Entries


def put_entry(
    db: sqlite3.Connection,
    entry: Entry,
    *,
    namespace: int,
    blob: int,
    ttl_seconds: float | None,
    score: float,
    seal: int,
) -> int:
    """Insert the entry, or let it take the place of the one with its key; return its row."""
    key = bytes.fromhex(entry.key)
    values = (
        namespace, blob, entry.blob.size, entry.blob.media_type, bytes.fromhex(entry.content_digest),
        entry.created_at, entry.used_at, entry.sequence, entry.uses,
        ttl_seconds, entry.expires_at, entry.cost, entry.pinned, score, seal,
        time_seal(key, entry.created_at, ttl_seconds, entry.expires_at, entry.pinned),
    )  # fmt: skip
    row = db.execute("SELECT id FROM entries WHERE key = ?", (key,)).fetchone()
    if row is None:
        cursor = db.execute(
            "INSERT INTO entries (namespace, blob, size, media_type, content_digest, created_at, used_at, "
            "sequence, uses, ttl_seconds, expires_at, cost, pinned, score, seal, time_seal, key) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, key),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid
    db.execute(
        "UPDATE entries SET namespace = ?, blob = ?, size = ?, media_type = ?, content_digest = ?, "
        "created_at = ?, used_at = ?, sequence = ?, uses = ?, ttl_seconds = ?, expires_at = ?, cost = ?, "
        "pinned = ?, score = ?, seal = ?, time_seal = ? WHERE id = ?",
        (*values, row[0]),
    )
    found: int = row[0]
    return found


def put_details(
    db: sqlite3.Connection,
    id: int,
    fields: bytes,
    dictionary: int,
    *,
    redacted: bool,
    model: str,
    prompt: str | None,
) -> None:
    db.execute(
        "INSERT INTO details (id, fields, dictionary, redacted, model, prompt) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (id) DO UPDATE SET fields = excluded.fields, dictionary = excluded.dictionary, "
        "redacted = excluded.redacted, model = excluded.model, prompt = excluded.prompt",
        (id, fields, dictionary, redacted, model, prompt),
    )


def set_time(db: sqlite3.Connection, row: Row, expires_at: float | None, *, pinned: bool) -> None:
    """Change how long an entry is fresh."""
    key, entry = bytes.fromhex(row.entry.key), row.entry
    sealed = time_seal(key, entry.created_at, row.ttl_seconds, expires_at, pinned)
    db.execute(
        "UPDATE entries SET expires_at = ?, pinned = ?, time_seal = ? WHERE id = ?",
        (expires_at, pinned, sealed, row.id),
    )


def remove_entries(db: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Remove entries; triggers count them out and doom blobs that nobody needs any more."""
    db.executemany("DELETE FROM entries WHERE id = ?", [(id,) for id in ids])


def next_sequence(db: sqlite3.Connection) -> int:
    """Return the next number in the order of use."""
    db.execute("UPDATE totals SET sequence = sequence + 1")
    number = of_totals(db, "sequence")
    if not _are_sums(number):
        raise RowsDamagedError("the order of use is no number")
    return int(number)


def rows(db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[Row]:
    """Return the rows that a condition of ours picks. `where` is never made from what a user typed.

    Damaged ones are left out: their next look-up, and `verify`, will say so.
    """
    found = []
    for each in db.execute(f"{SELECT_ROWS}{where}", values):
        with contextlib.suppress(ValueError):
            found.append(read_row(each))
    return found
