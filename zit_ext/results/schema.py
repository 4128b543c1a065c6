"""The tables of the index, and the way from any older version to this one.

Columns and not packed blobs; sums are kept by triggers, so that no question about the whole store
scans it. Rows are inserted, updated and deleted plainly: REPLACE would skip the delete triggers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ..errors import StoreVersionError

MIGRATIONS: Sequence[str] = (
    """
    -- One row for everything that is true of the whole store.
    CREATE TABLE totals (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        entries INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,          -- of blobs on disk, doomed ones too
        aside_bytes INTEGER NOT NULL DEFAULT 0,    -- in quarantine
        generation INTEGER NOT NULL DEFAULT 0,     -- grows when an entry goes or changes
        sequence INTEGER NOT NULL DEFAULT 0,       -- grows with each use of any entry
        policy TEXT NOT NULL DEFAULT '',
        floor REAL NOT NULL DEFAULT 0,             -- highest score that the caps have evicted
        rescored INTEGER,                          -- entries up to this id follow the policy; NULL: all
        hits INTEGER NOT NULL DEFAULT 0,           -- ever, of entries that went meanwhile too
        saved_seconds REAL NOT NULL DEFAULT 0,     -- of rendering, by those hits
        swept_at REAL NOT NULL DEFAULT 0,          -- when the folders were last searched for strangers
        clean INTEGER NOT NULL DEFAULT 1,          -- the last one to leave closed the door
        wall REAL, steady REAL, drift REAL, boot TEXT
    );
    -- Another index has another generation: memory that was filled from one must not trust the next.
    INSERT INTO totals (id, generation) VALUES (1, random() >> 12);

    CREATE TABLE namespaces (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        entries INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,          -- logical: a shared blob counts for each entry
        ttl_seconds REAL,                          -- NULL: the setting
        max_bytes INTEGER NOT NULL DEFAULT 0,      -- 0: no limit of its own
        max_entries INTEGER NOT NULL DEFAULT 0
    );

    CREATE TABLE blobs (
        id INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE CHECK (typeof(digest) = 'blob' AND length(digest) = 32),
        size INTEGER NOT NULL CHECK (typeof(size) = 'integer'),
        checksum_kind TEXT NOT NULL,
        checksum BLOB NOT NULL CHECK (typeof(checksum) = 'blob'),
        refs INTEGER NOT NULL DEFAULT 0 CHECK (typeof(refs) = 'integer'),
        doomed INTEGER NOT NULL DEFAULT 0          -- the file goes next, then the row
    );
    CREATE INDEX doomed_blobs ON blobs (id) WHERE doomed;

    CREATE TABLE entries (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE CHECK (typeof(key) = 'blob' AND length(key) = 32),
        namespace INTEGER NOT NULL CHECK (typeof(namespace) = 'integer'),
        blob INTEGER NOT NULL CHECK (typeof(blob) = 'integer'),
        size INTEGER NOT NULL CHECK (typeof(size) = 'integer'),
        -- Of the entry and not of the blob: equal bytes may be two things.
        media_type TEXT NOT NULL,
        content_digest BLOB NOT NULL CHECK (typeof(content_digest) = 'blob' AND length(content_digest) = 32),
        created_at REAL NOT NULL,
        used_at REAL NOT NULL,
        sequence INTEGER NOT NULL,
        uses INTEGER NOT NULL DEFAULT 0,
        ttl_seconds REAL,
        expires_at REAL,
        cost REAL NOT NULL DEFAULT 0,
        pinned INTEGER NOT NULL DEFAULT 0,
        score REAL NOT NULL,
        seal INTEGER NOT NULL,                     -- over everything that an answer is made of
        time_seal INTEGER NOT NULL                 -- over everything that says how long it is fresh
    );
    CREATE INDEX entries_by_score ON entries (score) WHERE NOT pinned;
    CREATE INDEX entries_by_namespace ON entries (namespace, score) WHERE NOT pinned;
    CREATE INDEX entries_by_blob ON entries (blob);
    CREATE INDEX entries_by_expiry ON entries (expires_at) WHERE expires_at IS NOT NULL;
    CREATE INDEX entries_pinned ON entries (id) WHERE pinned;

    -- Apart from the entries: eviction walks those, and must not drag prompts along.
    CREATE TABLE details (
        id INTEGER PRIMARY KEY,                    -- of the entry
        fields BLOB NOT NULL,
        dictionary INTEGER NOT NULL,
        redacted INTEGER NOT NULL,
        model TEXT NOT NULL,
        prompt TEXT
    );
    CREATE TABLE dictionaries (number INTEGER PRIMARY KEY, id INTEGER NOT NULL UNIQUE, data BLOB NOT NULL);

    -- Bytes that a writer may write: counted before the first one reaches the disk.
    CREATE TABLE reservations (
        id INTEGER PRIMARY KEY,
        digest BLOB NOT NULL,
        size INTEGER NOT NULL,
        owner TEXT NOT NULL
    );
    CREATE TABLE aside (
        name TEXT PRIMARY KEY,                     -- of a file in the quarantine
        size INTEGER NOT NULL,
        reason TEXT NOT NULL,
        at REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE claims (
        key BLOB PRIMARY KEY,
        owner TEXT NOT NULL,
        token TEXT NOT NULL,
        beat INTEGER NOT NULL DEFAULT 0,
        beat_at REAL NOT NULL
    ) WITHOUT ROWID;

    CREATE TRIGGER blob_came AFTER INSERT ON blobs BEGIN
        UPDATE totals SET bytes = bytes + NEW.size;
    END;
    CREATE TRIGGER blob_went AFTER DELETE ON blobs BEGIN
        UPDATE totals SET bytes = bytes - OLD.size;
    END;
    CREATE TRIGGER blob_resized AFTER UPDATE OF size ON blobs BEGIN
        UPDATE totals SET bytes = bytes - OLD.size + NEW.size;
    END;
    CREATE TRIGGER aside_came AFTER INSERT ON aside BEGIN
        UPDATE totals SET aside_bytes = aside_bytes + NEW.size;
    END;
    CREATE TRIGGER aside_went AFTER DELETE ON aside BEGIN
        UPDATE totals SET aside_bytes = aside_bytes - OLD.size;
    END;
    CREATE TRIGGER entry_came AFTER INSERT ON entries BEGIN
        UPDATE totals SET entries = entries + 1;
        UPDATE namespaces SET entries = entries + 1, bytes = bytes + NEW.size WHERE id = NEW.namespace;
        UPDATE blobs SET refs = refs + 1, doomed = 0 WHERE id = NEW.blob;
    END;
    CREATE TRIGGER entry_went AFTER DELETE ON entries BEGIN
        UPDATE totals SET entries = entries - 1, generation = generation + 1;
        UPDATE namespaces SET entries = entries - 1, bytes = bytes - OLD.size WHERE id = OLD.namespace;
        UPDATE blobs SET refs = refs - 1, doomed = (refs = 1) WHERE id = OLD.blob;
        DELETE FROM details WHERE id = OLD.id;
    END;
    CREATE TRIGGER entry_changed AFTER UPDATE OF blob, namespace, size ON entries BEGIN
        UPDATE totals SET generation = generation + 1;
        UPDATE namespaces SET entries = entries - 1, bytes = bytes - OLD.size WHERE id = OLD.namespace;
        UPDATE namespaces SET entries = entries + 1, bytes = bytes + NEW.size WHERE id = NEW.namespace;
        UPDATE blobs SET refs = refs - 1, doomed = (refs = 1) WHERE id = OLD.blob;
        UPDATE blobs SET refs = refs + 1, doomed = 0 WHERE id = NEW.blob;
    END;
    CREATE TRIGGER pin_changed AFTER UPDATE OF pinned ON entries WHEN OLD.pinned <> NEW.pinned BEGIN
        UPDATE totals SET generation = generation + 1;
    END;
    """,
    """
    -- Of the seconds uses * cost: what other hits for the same work had saved already.
    ALTER TABLE entries ADD COLUMN saved_before REAL NOT NULL DEFAULT 0;
    """,
)


VERSION = len(MIGRATIONS)


_THERE_ALREADY = ("already exists", "duplicate column")
"""What SQLite says where the number of the version was damaged, and the tables are of a later one."""


_MOST = 1000
"""No release will ever have so high a version: a number above it (or below 0) was damaged.

Whether a lower one is damaged or a newer version's nobody can tell by the tables: a later version may change
what is in them and nothing of their shape.
"""


def version_of(db: sqlite3.Connection) -> int:
    """Return the version of the schema; 0 of an index without tables. Raises DatabaseError for none."""
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if not 0 <= version <= _MOST:
        raise sqlite3.DatabaseError(f"malformed: no version has the number {version}")
    return version


def migrate(db: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring the index to the newest schema, each step whole or not at all.

    Raises StoreVersionError if the index is newer than that. The caller holds the store's lock.
    """
    version = version_of(db)
    if version > len(migrations):
        raise StoreVersionError(found=version, known=len(migrations))
    for number, script in enumerate(migrations[version:], start=version + 1):
        try:
            db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
        except BaseException as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if any(words in str(error) for words in _THERE_ALREADY):
                raise sqlite3.DatabaseError(f"malformed: its version is not {version} ({error})") from error
            raise
