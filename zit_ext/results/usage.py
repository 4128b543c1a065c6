"""How much a store holds. Sums are kept by triggers; what is counted here is what few rows have."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from . import index


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a store or one namespace holds, in entries and bytes.

    What no namespace has of its own (quarantine, files in work, what waits, memory) is 0 for one.
    """

    entries: int
    bytes: int
    """On disk. Of one namespace: as if nothing were shared."""
    max_bytes: int
    max_entries: int
    """0 means without limit."""
    logical_bytes: int
    """As if no two entries shared a blob."""
    pinned: int
    pinned_bytes: int
    stale: int
    quarantined: int
    quarantined_bytes: int
    orphan_bytes: int
    """Of files that wait to be deleted."""
    reserved_bytes: int
    """Of files that are being written."""
    hits: int
    """By all processes: ever; of one namespace, by the entries that are there."""
    saved_seconds: float
    """Of rendering, by those hits."""
    waiting: int
    """Results in the write-behind queue of this process."""
    memory_bytes: int


def measure(
    db: sqlite3.Connection,
    namespace: str | None,
    *,
    max_bytes: int,
    max_entries: int,
    now: float,
    waiting: int,
    memory_bytes: int,
) -> Usage:
    """Return the usage of the store, or of one namespace under the caps that it has itself."""
    whole = namespace is None
    space = None if namespace is None else index.find_namespace(db, namespace)
    totals = index.totals(db)
    if namespace is None:
        entries, held = totals.entries, totals.all_bytes
        logical = _number(db, "SELECT coalesce(sum(bytes), 0) FROM namespaces")
    else:
        entries = space.entries if space else 0
        held = logical = space.bytes if space else 0
        max_bytes = space.max_bytes if space else 0
        max_entries = space.max_entries if space else 0
    where, values = ("", ()) if namespace is None else (" AND namespace = ?", (space.id if space else -1,))
    pinned, pinned_bytes = db.execute(
        f"SELECT count(*), coalesce(sum(size), 0) FROM entries WHERE pinned{where}", values
    ).fetchone()
    stale = db.execute(
        f"SELECT count(*) FROM entries WHERE expires_at IS NOT NULL AND expires_at <= ?{where}",
        (now, *values),
    ).fetchone()[0]
    if whole:
        hits, saved = index.of_totals(db, "hits"), index.of_totals(db, "saved_seconds")
    else:
        hits, saved = db.execute(
            "SELECT coalesce(sum(uses), 0), coalesce(sum(uses * cost - saved_before), 0.0) FROM entries "
            "WHERE namespace = ?",
            (space.id if space else -1,),
        ).fetchone()
    return Usage(
        entries=entries,
        bytes=held,
        max_bytes=max_bytes,
        max_entries=max_entries,
        logical_bytes=logical,
        pinned=pinned,
        pinned_bytes=pinned_bytes,
        stale=stale,
        quarantined=_number(db, "SELECT count(*) FROM aside") if whole else 0,
        quarantined_bytes=totals.aside_bytes if whole else 0,
        orphan_bytes=_number(db, "SELECT coalesce(sum(size), 0) FROM blobs WHERE doomed") if whole else 0,
        reserved_bytes=totals.reserved_bytes if whole else 0,
        hits=hits,
        saved_seconds=saved,
        waiting=waiting if whole else 0,
        memory_bytes=memory_bytes if whole else 0,
    )


def _number(db: sqlite3.Connection, question: str) -> int:
    found: int = db.execute(question).fetchone()[0]
    return found
