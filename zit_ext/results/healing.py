"""Sets aside what was found damaged, so that the next render of the same request heals it.

A reader that stumbles over damage reports it and answers with a miss; here, on the writer's thread,
it is looked at once more: meanwhile somebody may have written it anew.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from ..codecs import CodecError
from ..errors import BlobCorruptError
from . import index
from .blobs import BlobMissingError, Blobs
from .database import hex_of, transaction
from .decoding import check_decodable
from .dictionaries import Dictionaries
from .rows import Row, find_row

log = logging.getLogger(__name__)


class Damage(NamedTuple):
    """Something that an entry's reader could not believe."""

    key: str
    reason: str


def canonical_of(db: sqlite3.Connection, dictionaries: Dictionaries, row: Row) -> bytes:
    """Return the stored fields of a row that hangs together. Raises ValueError for one that does not."""
    canonical = dictionaries.unpack(db, row.fields, row.dictionary)
    if not row.is_whole(canonical):
        raise ValueError("a row of the index is damaged")
    return canonical


class Healer:
    """Removes damaged rows and blobs from one index. Runs on the writer's thread."""

    def __init__(
        self,
        db: sqlite3.Connection,
        blobs: Blobs,
        dictionaries: Dictionaries,
        *,
        wall: Callable[[], float],
        gone: Callable[[str], None],
    ) -> None:
        self._db = db
        self._blobs = blobs
        self._dictionaries = dictionaries
        self._wall = wall
        self._gone = gone

    def heal(self, damage: Damage, *, thorough: bool = False) -> bool:
        """Look again, and set aside what is still damaged; tell whether anything was.

        `thorough` looks at the full digest, and decodes.
        """
        with transaction(self._db):
            try:
                row = find_row(self._db, damage.key)
                if row is None:
                    return self._remove_remains(damage.key)
                canonical_of(self._db, self._dictionaries, row)
            except ValueError:
                log.warning("the row of %s is damaged; it is removed", damage.key[:12])
                return self._remove_remains(damage.key)
            try:
                data = self._blobs.read(row.entry.blob, row.checksum_kind, row.checksum)
                if thorough:
                    self._check(row, data)
            except BlobCorruptError as error:
                if index.is_reserved(self._db, bytes.fromhex(row.entry.blob.digest)):
                    return False  # it is being written anew
                self._set_aside(row, error)
                return True
            return False

    def _check(self, row: Row, data: bytes) -> None:
        entry = row.entry
        if hashlib.sha256(data).hexdigest() != entry.blob.digest:
            raise BlobCorruptError(entry.blob.digest, "its bytes changed")
        try:
            check_decodable(entry.blob.media_type, data, entry.content_digest)
        except CodecError as error:
            raise BlobCorruptError(entry.blob.digest, str(error)) from error

    def _remove_remains(self, key: str) -> bool:
        """Remove a row that cannot be read whole, whatever it is joined to."""
        cursor = self._db.execute("DELETE FROM entries WHERE key = ?", (bytes.fromhex(key),))
        self._gone(key)
        return cursor.rowcount > 0

    def _set_aside(self, row: Row, error: BlobCorruptError) -> None:
        log.warning("%s", error)
        digest = row.entry.blob.digest
        if not isinstance(error, BlobMissingError):
            put_aside(self._db, self._blobs.set_aside(digest), str(error), self._wall())
        for id, key in self._db.execute(
            "SELECT id, key FROM entries WHERE blob = ?", (row.blob_id,)
        ).fetchall():
            index.remove_entries(self._db, [id])
            self._gone(hex_of(key))
        self._db.execute("DELETE FROM blobs WHERE id = ?", (row.blob_id,))


def put_aside(db: sqlite3.Connection, file: tuple[str, int] | None, reason: str, at: float) -> None:
    """Count a file that lies in the quarantine now."""
    if file is not None:
        db.execute(
            "INSERT INTO aside (name, size, reason, at) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
            (*file, reason, at),
        )
