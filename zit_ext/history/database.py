"""The file of history: counters in buckets of three widths, to which every process of the folder adds.

A file that cannot be read is left behind, and a new one of another name begins: SQLite deletes a journal
by its name, so a name is never used twice. The newest file counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from ..sqlite_files import Connection, is_malformed
from .tally import COUNTS, SUMS, Bucket, Counted, Look

KEPT: dict[int, float] = {60: 26 * 3600.0, 900: 15 * 86_400.0, 21_600: 750 * 86_400.0}
"""Seconds of a bucket, and for how many seconds such buckets are kept."""

MOST_ROWS = 200_000
"""Rows of one table, whatever happens: where many namespaces make more, the oldest and finest go first."""

MOST_TOTALS = 20_000
"""Rows of totals: beyond them a namespace that comes anew has none."""

FOLDER = "history"
"""Where the files lie in the cache folder."""

VERSION = 1
_BUSY_SECONDS = 1.0
_NAME = re.compile(r"history-([0-9]{20})\.sqlite3")
_WHOLE = 1
_PRUNE_SECONDS = 600.0

_NUMBERS = (*COUNTS, *SUMS)
_SCHEMA = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS buckets (
        step INTEGER NOT NULL, at INTEGER NOT NULL, namespace TEXT NOT NULL,
        {", ".join(f"{name} INTEGER NOT NULL DEFAULT 0" for name in COUNTS)},
        {", ".join(f"{name} REAL NOT NULL DEFAULT 0" for name in SUMS)},
        PRIMARY KEY (step, at, namespace)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS parts (
        step INTEGER NOT NULL, at INTEGER NOT NULL, namespace TEXT NOT NULL,
        kind TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (step, at, namespace, kind, name)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS sizes (              -- the last that was seen in a bucket
        step INTEGER NOT NULL, at INTEGER NOT NULL, whole INTEGER NOT NULL, namespace TEXT NOT NULL,
        bytes INTEGER NOT NULL, entries INTEGER NOT NULL,
        PRIMARY KEY (step, at, whole, namespace)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS held (               -- models that some process held
        step INTEGER NOT NULL, at INTEGER NOT NULL, source TEXT NOT NULL,
        PRIMARY KEY (step, at, source)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS totals (             -- since the file began
        whole INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, number REAL NOT NULL,
        PRIMARY KEY (whole, namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS events (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
    PRAGMA user_version = {VERSION};
    COMMIT;
"""


class HistoryError(Exception):
    """History cannot be read or written just now. Costs a chart, and nothing else."""


class HistoryFile:
    """The file of one folder. One thread writes; each reader opens the file for itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: tuple[Path, sqlite3.Connection] | None = None

    def add(self, counted: Counted, now: float) -> None:
        """Add what one process counted, all of it or nothing. Raises HistoryError."""
        with self._translated():
            db = self._writer(now)
            db.execute("BEGIN IMMEDIATE")
            try:
                for (minute, namespace), bucket in counted.buckets.items():
                    _add_bucket(db, minute, namespace, bucket)
                for look in counted.looks:
                    _add_look(db, look)
                db.executemany(
                    "INSERT INTO events VALUES (?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET number = number + excluded.number",
                    list(counted.events.items()),
                )
                _prune_now_and_then(db, now)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection | None]:
        """Lend a connection that only reads; None if nothing was ever written. Raises HistoryError."""
        path = self._newest()
        if path is None:
            yield None
            return
        with self._translated(reading=True):
            db = _connect(path)
            try:
                db.execute("PRAGMA query_only = ON")
                if _version(db) != VERSION:
                    yield None
                    return
                db.execute("BEGIN")  # what is read belongs together
                yield db
            finally:
                db.close()

    def close(self) -> None:
        """Let go of the file. Twice is fine."""
        if self._open is not None:
            _path, db = self._open
            self._open = None
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _writer(self, now: float) -> sqlite3.Connection:
        path = self._newest()
        if self._open is not None:
            opened, db = self._open
            if opened == path:
                return db
            self.close()  # another process began a new one
        if path is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._new_path()
        db = _connect(path)
        try:
            version = _version(db)
            if version > VERSION:
                raise HistoryError(
                    f"a newer version writes history here (schema {version}, known: {VERSION})"
                )
            db.execute("PRAGMA synchronous = NORMAL")
            if version < VERSION:
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(_SCHEMA)
                db.execute("INSERT INTO facts VALUES ('since', ?) ON CONFLICT DO NOTHING", (now,))
        except BaseException:
            if db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
            db.close()
            raise
        self._open = path, db
        return db

    @contextlib.contextmanager
    def _translated(self, reading: bool = False) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if is_malformed(error):
                if not reading:
                    self.close()
                self._begin_anew()
            raise HistoryError(f"history cannot be {'read' if reading else 'written'}: {error}") from error
        except OSError as error:
            raise HistoryError(f"history cannot be reached: {error}") from error

    def _begin_anew(self) -> None:
        """Leave the present file, and make an empty one that is newer. Any thread: the writer will see it."""
        with contextlib.suppress(OSError):
            fresh = self._new_path()
            fresh.touch()
            for path in self._files():
                if path < fresh:
                    for end in ("", "-wal", "-shm"):
                        Path(f"{path}{end}").unlink(missing_ok=True)

    def _newest(self) -> Path | None:
        files = self._files()
        return files[-1] if files else None

    def _files(self) -> list[Path]:
        try:
            names = sorted(name for name in os.listdir(self._folder) if _NAME.fullmatch(name))  # noqa: PTH208
        except OSError:
            return []
        return [self._folder / name for name in names]

    def _new_path(self) -> Path:
        newest = self._newest()
        after = 0 if newest is None else int(newest.name[8:28])
        return self._folder / f"history-{max(time.time_ns(), after + 1):020d}.sqlite3"


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=Connection
    )


def _version(db: sqlite3.Connection) -> int:
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    return found


def _add_bucket(db: sqlite3.Connection, minute: int, namespace: str, bucket: Bucket) -> None:
    numbers = [bucket.numbers.get(name, 0) for name in _NUMBERS]
    marks = ", ".join("?" * len(_NUMBERS))
    sums = ", ".join(f"{name} = {name} + excluded.{name}" for name in _NUMBERS)
    for step in KEPT:
        at = minute // step * step
        db.execute(
            f"INSERT INTO buckets (step, at, namespace, {', '.join(_NUMBERS)}) VALUES (?, ?, ?, {marks}) "
            f"ON CONFLICT (step, at, namespace) DO UPDATE SET {sums}",
            (step, at, namespace, *numbers),
        )
        db.executemany(
            "INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (step, at, namespace, kind, name) DO UPDATE SET number = number + excluded.number",
            [(step, at, namespace, *part, number) for part, number in bucket.parts.items()],
        )
    known = db.execute("SELECT count(*) FROM totals").fetchone()[0] < MOST_TOTALS
    for whole, name in ((_WHOLE, ""), (0, namespace)):
        told = [(whole, name, *each) for each in zip(_NUMBERS, numbers, strict=True)]
        if known or whole or db.execute("SELECT 1 FROM totals WHERE namespace = ?", (name,)).fetchone():
            db.executemany(
                "INSERT INTO totals VALUES (?, ?, ?, ?) "
                "ON CONFLICT (whole, namespace, name) DO UPDATE SET number = number + excluded.number",
                told,
            )


def _add_look(db: sqlite3.Connection, look: Look) -> None:
    for step in KEPT:
        at = int(look.at // step) * step
        db.executemany(
            "INSERT INTO sizes VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (step, at, whole, namespace) "
            "DO UPDATE SET bytes = excluded.bytes, entries = excluded.entries",
            [
                (step, at, name is None, name or "", size.bytes, size.entries)
                for name, size in look.sizes.items()
            ],
        )
        db.executemany(
            "INSERT INTO held VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            [(step, at, source) for source in look.held],
        )


def _prune_now_and_then(db: sqlite3.Connection, now: float) -> None:
    """Prune, unless some process did so a little while ago."""
    found = db.execute("SELECT value FROM facts WHERE name = 'pruned_at'").fetchone()
    if found is None or not 0 <= now - found[0] < _PRUNE_SECONDS:
        _prune(db, now)
        db.execute(
            "INSERT INTO facts VALUES ('pruned_at', ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (now,),
        )


def _prune(db: sqlite3.Connection, now: float) -> None:
    """Forget what is too old, and what is too much."""
    for table in ("buckets", "parts", "sizes", "held"):
        for step, seconds in KEPT.items():
            db.execute(f"DELETE FROM {table} WHERE step = ? AND at < ?", (step, now - seconds))
        for step in KEPT:
            too_many = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] - MOST_ROWS
            if too_many <= 0:
                break
            (last,) = db.execute(
                f"SELECT max(at) FROM (SELECT at FROM {table} WHERE step = ? ORDER BY at LIMIT ?)",
                (step, too_many),
            ).fetchone()
            if last is not None:
                db.execute(f"DELETE FROM {table} WHERE step = ? AND at <= ?", (step, last))
