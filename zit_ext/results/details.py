"""Entries with their fields: one by its key, some by a selection, the nearest to a request."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ..errors import RequestError
from ..fingerprint import canonical_bytes, differing_fields, read_canonical
from ..records import Entry, FieldValue
from . import fields as packing
from .dictionaries import Dictionaries
from .healing import canonical_of
from .index import rows
from .rows import SELECT_ROWS, Row, read_row
from .selection import Selection

NEAREST_SCAN = 5000
"""Entries, the newest first, that `nearest` compares."""

_PREFIX = re.compile(r"[0-9a-f]{1,64}")
_PAGE = 200


class EntryDetails(NamedTuple):
    """One entry, and everything that went into its key."""

    entry: Entry
    fields: Mapping[str, FieldValue]
    redacted: bool
    """Texts are digests: the entry was kept with `store_prompts` off."""


def select(db: sqlite3.Connection, selection: Selection, now: float) -> list[Entry]:
    """Return the entries that fit, without their fields."""
    return [row.entry for row in rows(db, *selection.question(now))]


def count(db: sqlite3.Connection, selection: Selection, now: float) -> int:
    """Return how many entries fit, whatever the selection's limit."""
    found: int = db.execute(*selection.counting(now)).fetchone()[0]
    return found


def keys_like(db: sqlite3.Connection, prefix: str, limit: int) -> list[str]:
    """Return keys that begin so. Raises RequestError if no key can."""
    if not _PREFIX.fullmatch(prefix):
        raise RequestError("key", prefix, "a key is up to 64 of the digits 0-9 and a-f")
    low, high = bytes.fromhex(prefix.ljust(64, "0")), bytes.fromhex(prefix.ljust(64, "f"))
    found = db.execute(
        "SELECT key FROM entries WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?", (low, high, limit)
    )
    return [row[0].hex() for row in found]


def details_of(db: sqlite3.Connection, dictionaries: Dictionaries, prefix: str) -> EntryDetails | None:
    """Return the one entry whose key begins so, or None. Raises RequestError if there are several."""
    keys = keys_like(db, prefix.lower(), 5)
    if not keys:
        return None
    if len(keys) > 1:
        raise RequestError("key", prefix, f"several begin so: {', '.join(each[:16] for each in keys)}")
    for row in rows(db, "WHERE e.key = ?", (bytes.fromhex(keys[0]),)):
        return _details(db, dictionaries, row)
    return None


def arrivals(db: sqlite3.Connection, after: int | None, namespace: str | None) -> tuple[int, list[str]]:
    """Return the last row's number, and the keys behind another number; of one namespace, if it is named."""
    last = db.execute("SELECT coalesce(max(id), 0) FROM entries").fetchone()[0]
    if after is None or last <= after:
        return last, []
    condition = "" if namespace is None else " AND n.name = ?"
    values: list[object] = [after] if namespace is None else [after, namespace]
    found = db.execute(
        "SELECT e.key FROM entries e JOIN namespaces n ON n.id = e.namespace "
        f"WHERE e.id > ?{condition} ORDER BY e.id DESC LIMIT {_PAGE}",
        values,
    )
    return last, [row[0].hex() for row in reversed(found.fetchall())]


def nearest(
    db: sqlite3.Connection, dictionaries: Dictionaries, asked: Mapping[str, FieldValue], limit: int
) -> list[EntryDetails]:
    """Return the entries that differ from these fields in the fewest, of the newest in the namespace."""
    namespace = asked.get("namespace")
    condition = "" if namespace is None else "WHERE n.name = ? "
    values = [] if namespace is None else [namespace]
    plain = read_canonical(canonical_bytes(asked))
    silent = read_canonical(packing.redacted(canonical_bytes(asked)))
    ranked = []
    newest = db.execute(f"{SELECT_ROWS}{condition}ORDER BY e.id DESC LIMIT {NEAREST_SCAN}", values)
    for number, each in enumerate(newest.fetchall()):
        found = _details(db, dictionaries, read_row(each))
        if found is not None:
            differences = differing_fields(silent if found.redacted else plain, found.fields)
            ranked.append((len(differences), number, found))
    ranked.sort(key=lambda one: one[:2])
    return [found for _, _, found in ranked[:limit]]


def every_row(db: sqlite3.Connection, namespace: str | None = None) -> Iterator[Row | str]:
    """Yield each row, page by page, so that writers are not kept waiting; the key of one that is damaged."""
    last = 0
    condition = "" if namespace is None else "AND n.name = ? "
    values = () if namespace is None else (namespace,)
    while True:
        page = db.execute(
            f"{SELECT_ROWS}WHERE e.id > ? {condition}ORDER BY e.id LIMIT ?", (last, *values, _PAGE)
        ).fetchall()
        if not page:
            return
        for each in page:
            last = each[0]
            try:
                yield read_row(each)
            except ValueError:
                yield str(each[1].hex()) if isinstance(each[1], bytes) else "?"


def _details(db: sqlite3.Connection, dictionaries: Dictionaries, row: Row) -> EntryDetails | None:
    try:
        fields = dict(read_canonical(canonical_of(db, dictionaries, row)))
    except ValueError:
        return None  # damaged; `verify` and the next look for it will say so
    fields.pop("schema", None)
    return EntryDetails(row.entry, fields, row.redacted)
