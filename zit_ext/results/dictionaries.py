"""The dictionaries that fields are packed against: read once, then remembered."""

from __future__ import annotations

import sqlite3

from . import fields


class Dictionaries:
    """Packs and unpacks fields for one index. Any thread may unpack; only the writer packs."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {0: b""}

    def forget(self) -> None:
        """Forget everything: another index took the old one's place."""
        self._known = {0: b""}

    def unpack(self, db: sqlite3.Connection, packed: bytes, dictionary: int) -> bytes:
        """Return the canonical fields. Raises ValueError if they are damaged."""
        data = self._known.get(dictionary)
        if data is None:
            row = db.execute("SELECT data FROM dictionaries WHERE id = ?", (dictionary,)).fetchone()
            if row is None:
                raise ValueError("the dictionary of the fields is gone")
            data = self._known[dictionary] = row[0]
        return fields.unpack(packed, data)

    def pack(self, db: sqlite3.Connection, canonical: bytes) -> tuple[bytes, int]:
        """Return packed fields and the dictionary they need, inside the caller's transaction."""
        newest = db.execute("SELECT max(id) FROM dictionaries").fetchone()[0] or 0
        if newest not in self._known:
            row = db.execute("SELECT data FROM dictionaries WHERE id = ?", (newest,)).fetchone()
            self._known[newest] = row[0]
        packed = fields.pack(canonical, self._known[newest])
        if len(packed) <= fields.POOR * len(canonical) or newest >= fields.MAX_DICTIONARIES:
            return packed, newest
        try:
            plain = fields.redacted(canonical)
        except ValueError:
            return packed, newest
        if newest and len(fields.pack(plain, self._known[newest])) <= fields.POOR * len(plain):
            return packed, newest  # it is the prompt that is long
        cursor = db.execute("INSERT INTO dictionaries (data) VALUES (?)", (plain,))
        assert cursor.lastrowid is not None
        # Remembered only when it is read again: the caller's transaction may yet fail.
        return fields.pack(canonical, plain), cursor.lastrowid
