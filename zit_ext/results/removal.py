"""What people change by hand: remove, clear, pin, limit. Each runs on the writer's thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from . import index
from .database import hex_of, transaction
from .desk import Desk
from .rows import Row, expiry, find_row, is_fresh

_BATCH = 500
"""Entries that go in one transaction: other processes get their turn in between."""


def remove(desk: Desk, keys: Sequence[str]) -> int:
    """Remove these entries; return how many were there."""
    removed = 0
    for start in range(0, len(keys), _BATCH):
        with transaction(desk.db):
            found = [id for key in keys[start : start + _BATCH] if (id := _row_of(desk, key)) is not None]
            index.remove_entries(desk.db, found)
        removed += len(found)
        desk.room.reap()
    for key in keys:
        desk.place.gone(key)
    return removed


def remove_some(desk: Desk, namespace: str | None) -> int:
    """Remove some entries of a namespace, or of all; return how many, 0 at the end."""
    where, values = ("", ()) if namespace is None else ("AND n.name = ? ", (namespace,))
    with transaction(desk.db):
        found = desk.db.execute(
            f"SELECT e.id, e.key FROM entries e JOIN namespaces n ON n.id = e.namespace {where}LIMIT ?",
            (*values, _BATCH),
        ).fetchall()
        index.remove_entries(desk.db, [id for id, _ in found])
    for _, key in found:
        desk.place.gone(hex_of(key))
    desk.room.reap()
    return len(found)


def pin(desk: Desk, keys: Sequence[str]) -> int:
    """Keep these entries for good: without a time to live, out of reach of the caps."""
    pinned = 0
    with transaction(desk.db):
        for row in _rows_of(desk, keys):
            if is_fresh(row.entry.expires_at, desk.place.time.now()):
                index.set_time(desk.db, row, None, pinned=True)
                pinned += 1
    return pinned


def unpin(desk: Desk, keys: Sequence[str]) -> int:
    """Let these entries go again; their time to live starts anew."""
    unpinned = 0
    with transaction(desk.db):
        for row in _rows_of(desk, keys):
            if row.entry.pinned:
                expires_at = expiry(row.ttl_seconds, desk.place.time.now())
                index.set_time(desk.db, row, expires_at, pinned=False)
                unpinned += 1
    return unpinned


def limit_namespace(
    desk: Desk, namespace: str, ttl_seconds: float | None, max_bytes: int, max_entries: int
) -> None:
    """Give a namespace limits of its own, and evict what is over them."""
    with transaction(desk.db):
        space = index.namespace_of(desk.db, namespace)
        desk.db.execute(
            "UPDATE namespaces SET ttl_seconds = ?, max_bytes = ?, max_entries = ? WHERE id = ?",
            (ttl_seconds, max_bytes, max_entries, space.id),
        )
    desk.place.namespace_ttls[namespace] = ttl_seconds
    while desk.room.trim_namespace(namespace):
        pass


def _row_of(desk: Desk, key: str) -> int | None:
    row = desk.db.execute("SELECT id FROM entries WHERE key = ?", (bytes.fromhex(key),)).fetchone()
    return None if row is None else row[0]


def _rows_of(desk: Desk, keys: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of these keys that are there and whole."""
    for key in keys:
        with contextlib.suppress(ValueError):
            row = find_row(desk.db, key)
            if row is not None:
                yield row
