"""Every name under which the store counts something, and what it means: for metrics, dashboards and docs."""

from __future__ import annotations

from collections.abc import Mapping

COUNTERS: Mapping[str, str] = {
    # Damage: each is a miss, and heals
    "corrupt": "a blob was not what was written; it went into quarantine",
    "blob_missing": "an entry's blob was gone",
    "row_damaged": "a row of the index did not hang together",
    "fields_differ": "an entry had the key that was asked for, and other fields",
    "index_malformed": "SQLite could not read the index; an empty one took its place",
    "mended": "a sum, a limit or a reference of the index was wrong; it was set right",
    "healed": "a damaged entry was removed, so that the next render can take its place",
    # What was answered and not kept
    "queue_full": "too many results waited to be written",
    "larger_than_cap": "a single result was larger than all the store may hold",
    "full": "nothing may be evicted: pinned entries fill the store",
    "undecodable": "a result did not decode to what it should be",
    "not_scored": "no plugin could say what the entry is worth",
    "disk_full": "the disk was full",
    "write_failed": "the disk or the index refused the write for another reason",
    "dropped": "a result was accepted and could not be written, for any of these reasons",
    # What went
    "evicted_by_bytes": "an entry made room for others' bytes",
    "evicted_by_entries": "an entry made room for another",
    "expired": "a stale entry was removed",
    "orphan": "a file that no row knows was removed",
    "quarantine_emptied": "a damaged file in quarantine made room",
    # The rest
    "busy": "a look-up gave up on an index that another program held; a miss",
    "delete_postponed": "a file could not be deleted just now",
    "not_rescored": "an entry kept its old score, since no plugin gave a new one",
    "recovered": "a write that a crash had cut short was undone",
    "network_file_system": "the folder lies on a network file system, whose locks cannot be trusted",
}

DAMAGE = (
    "corrupt", "blob_missing", "row_damaged", "fields_differ", "index_malformed", "mended", "healed",
)  # fmt: skip
"""Those that count damage."""

EVICTIONS: Mapping[str, str] = {
    "evicted_by_bytes": "bytes",
    "evicted_by_entries": "entries",
    "expired": "stale",
}
"""Those that count entries that went by themselves, and the cause in one word."""
