"""What people change by hand: remove, clear, pin, limit. Each runs on the writer's thread."""

from __future__ import annotations

from collections.abc import Sequence

from . import index
from .database import hex_of, transaction
from .desk import Desk
from .rows import expiry, is_fresh

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
        for key in keys:
            row = _row_of(desk, key)
            if row is None:
                continue
            expires_at = desk.db.execute("SELECT expires_at FROM entries WHERE id = ?", (row,)).fetchone()[0]
            if is_fresh(expires_at, desk.place.time.now()):
                desk.db.execute("UPDATE entries SET pinned = 1, expires_at = NULL WHERE id = ?", (row,))
                pinned += 1
    return pinned


def unpin(desk: Desk, keys: Sequence[str]) -> int:
    """Let these entries go again; their time to live starts anew."""
    unpinned = 0
    with transaction(desk.db):
        for key in keys:
            found = desk.db.execute(
                "SELECT id, ttl_seconds FROM entries WHERE key = ? AND pinned", (bytes.fromhex(key),)
            ).fetchone()
            if found is not None:
                expires_at = expiry(found[1], desk.place.time.now())
                desk.db.execute(
                    "UPDATE entries SET pinned = 0, expires_at = ? WHERE id = ?", (expires_at, found[0])
                )
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
