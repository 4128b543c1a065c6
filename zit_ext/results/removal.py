"""What people change by hand: remove, clear, pin, limit. Each runs on the writer's thread."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence

from . import index
from .database import hex_of, transaction
from .desk import Desk, is_out_of_space
from .rows import Row, expiry, find_row, is_fresh

_BATCH = 500
"""Entries that go in one transaction: other processes get their turn in between."""


def remove(desk: Desk, keys: Sequence[str]) -> int:
    """Remove these entries; return how many were there."""
    removed = 0
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        removed += len(
            _remove(desk, lambda batch=batch: [id for key in batch if (id := _row_of(desk, key)) is not None])  # type: ignore[misc]
        )
        desk.room.reap()
    for key in keys:
        desk.place.gone(key)
    return removed


def remove_some(desk: Desk, namespace: str | None) -> int:
    """Remove some entries of a namespace, or of all; return how many, 0 at the end."""
    where, values = ("", ()) if namespace is None else ("AND n.name = ? ", (namespace,))
    question = f"SELECT e.id FROM entries e JOIN namespaces n ON n.id = e.namespace {where}LIMIT ?"
    keys = _remove(desk, lambda: [id for (id,) in desk.db.execute(question, (*values, _BATCH))])
    for key in keys:
        desk.place.gone(hex_of(key))
    desk.room.reap()
    return len(keys)


def _remove(desk: Desk, choose: Callable[[], list[int]]) -> list[bytes]:
    """Remove the entries that are chosen, in one transaction; return their keys."""

    def step() -> list[bytes]:
        with transaction(desk.db):
            chosen = choose()
            keys = [
                desk.db.execute("SELECT key FROM entries WHERE id = ?", (id,)).fetchone()[0] for id in chosen
            ]
            index.remove_entries(desk.db, chosen)
            return keys

    try:
        return step()
    except sqlite3.OperationalError as error:
        if not is_out_of_space(error):
            raise
    # A full disk has no room to write down what goes, so for once the files go first. Killed in between,
    # rows without a blob are left: misses, that heal.
    for id in choose():
        for (digest,) in desk.db.execute(
            "SELECT b.digest FROM entries e JOIN blobs b ON b.id = e.blob WHERE e.id = ? AND b.refs = 1",
            (id,),
        ).fetchall():
            with contextlib.suppress(OSError):
                desk.blobs.remove(hex_of(digest))
    return step()


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
