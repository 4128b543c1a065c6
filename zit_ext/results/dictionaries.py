"""The dictionaries that fields are packed against: read once, then remembered."""

from __future__ import annotations

import hashlib
import sqlite3

from . import fields


class Dictionaries:
    """Packs and unpacks fields. Any thread may unpack; only the writer packs.

    A dictionary's id follows from its content: what is remembered of one index is true of the next.
    """

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {0: b""}

    def unpack(self, db: sqlite3.Connection, packed: bytes, dictionary: int) -> bytes:
        """Return the canonical fields. Raises ValueError if they are damaged."""
        data = self._known.get(dictionary)
        if data is None:
            row = db.execute("SELECT data FROM dictionaries WHERE id = ?", (dictionary,)).fetchone()
            if row is None or not _is_whole(row[0], dictionary):
                raise ValueError("the dictionary of the fields is gone or damaged")
            data = self._known[dictionary] = row[0]
        return fields.unpack(packed, data)

    def pack(self, db: sqlite3.Connection, canonical: bytes) -> tuple[bytes, int]:
        """Return packed fields and the dictionary they need, inside the caller's transaction."""
        number, newest, data = 0, 0, b""
        row = db.execute("SELECT number, id, data FROM dictionaries ORDER BY number DESC LIMIT 1").fetchone()
        if row is not None:
            number = row[0]
            if _is_whole(row[2], row[1]):  # nothing new may come to depend on a damaged one
                newest, data = row[1], row[2]
        packed = fields.pack(canonical, data)
        if len(packed) <= fields.POOR * len(canonical) or number >= fields.MAX_DICTIONARIES:
            return packed, newest
        try:
            plain = fields.redacted(canonical)
        except ValueError:
            return packed, newest
        if newest and len(fields.pack(plain, data)) <= fields.POOR * len(plain):
            return packed, newest  # it is the prompt that is long
        db.execute(
            "INSERT INTO dictionaries (id, data) VALUES (?, ?) "
            "ON CONFLICT (id) DO UPDATE SET data = excluded.data",  # one that was damaged is whole again
            (_id_of(plain), plain),
        )
        return fields.pack(canonical, plain), _id_of(plain)


def _is_whole(data: object, id: object) -> bool:
    return isinstance(data, bytes) and _id_of(data) == id


def _id_of(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:7], "big") + 1
