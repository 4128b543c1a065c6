"""Connections to the index: one that writes, many that read, and what SQLite's complaints mean.

SQLite tells us that somebody else is writing; we wait, and nobody sees it. SQLite tells us that the
file is malformed; we say so by an error of its own, and the store makes a new one. The index lies on
a local disk: over a network file system its locks are not to be trusted.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import StoreError, StoreVersionError
from ..sqlite_files import is_malformed, opened
from .schema import VERSION, version_of

BUSY_SECONDS = 5.0
"""How long SQLite itself waits for another process's write."""
PATIENCE_SECONDS = 60.0
"""How long we go on asking it to. Writes are behind the callers' backs, so patience costs nothing."""

SYNCHRONOUS = {"off": "NORMAL", "normal": "NORMAL", "full": "FULL"}
"""What each durability asks of SQLite: FULL makes every commit last, NORMAL loses the newest at most."""
_BUSY_WORDS = ("locked", "busy")


class IndexMalformedError(StoreError):
    """The index cannot be read. It is set aside, and an empty one takes its place."""

    def __init__(self, path: Path, why: BaseException) -> None:
        super().__init__(f"the index of the result store is malformed ({why})")
        self.path = path


class RowsDamagedError(sqlite3.DatabaseError):
    """A row beside the entries holds what it cannot hold. `mending` sets it right."""

    def __init__(self, what: str) -> None:
        super().__init__(f"malformed: {what}")


def hex_of(value: object) -> str:
    """Return a digest or key of the index as text. Raises RowsDamagedError for anything else."""
    if not isinstance(value, bytes) or len(value) != 32:
        raise RowsDamagedError(f"{value!r} stands where a digest should")
    return value.hex()


def is_busy(error: BaseException) -> bool:
    """Tell whether SQLite says that somebody else holds the lock."""
    return isinstance(error, sqlite3.OperationalError) and any(w in str(error) for w in _BUSY_WORDS)


def connect(path: Path, *, durability: str = "normal", cache_kib: int = 2048) -> sqlite3.Connection:
    """Open the index for the thread that writes."""
    db = opened(path, timeout=BUSY_SECONDS)
    try:
        db.execute(f"PRAGMA cache_size = -{cache_kib}")
        db.execute("PRAGMA temp_store = MEMORY")  # a sort must not leave prompts in a temporary file
        db.execute("PRAGMA secure_delete = FAST")  # a removed prompt is overwritten where that costs nothing
        db.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")
        db.execute(f"PRAGMA fullfsync = {durability == 'full'}")  # macOS; no difference elsewhere
    except BaseException:
        db.close()
        raise
    return db


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, patience: float = PATIENCE_SECONDS) -> Iterator[sqlite3.Connection]:
    """Hold the one right to write. All of it happens, or nothing."""
    _insist(db, "BEGIN IMMEDIATE", patience)
    try:
        yield db
        _insist(db, "COMMIT", patience)
    except BaseException:
        # SQLite itself rolls back on a full disk, and a second time would be an error.
        if db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise


def _insist(db: sqlite3.Connection, statement: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            db.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


class Pool:
    """Connections lent to whichever thread asks. Readers never wait behind a write."""

    def __init__(
        self, locate: Callable[[], Path], *, writing: bool = False, busy_seconds: float = 1.0
    ) -> None:
        self._locate = locate
        self._path = str(locate())
        self._writing = writing
        self._busy_seconds = busy_seconds
        self._idle: list[tuple[str, sqlite3.Connection]] = []
        self._closed = False
        self._process = os.getpid()

    def lend(self) -> Loan:
        """Lend a connection to the file that is the index now, to a `with` statement.

        Raises FileNotFoundError if there is none, IndexMalformedError if SQLite says so.
        """
        return Loan(self)

    def take(self) -> tuple[str, sqlite3.Connection]:
        """Return a connection that is nobody's meanwhile, and the file that it is to. Raises as `lend`."""
        if os.getpid() != self._process:
            raise StoreError("this process was forked off an open store; open a store of its own")
        path = self._current()
        try:
            try:
                return path, self._connection(path)
            except FileNotFoundError:  # it was set aside since we looked
                path = self._current()
                return path, self._connection(path)
        except Exception as error:
            if is_malformed(error):
                raise IndexMalformedError(Path(path), error) from error
            raise

    def give_back(self, path: str, db: sqlite3.Connection) -> None:
        """Let others have a connection that works."""
        self._idle.append((path, db))
        if self._closed:
            self.close()

    def close(self) -> None:
        self._closed = True
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop()[1].close()

    def _current(self) -> str:
        path = self._path
        try:
            os.stat(path)  # noqa: PTH116 - on every hit, and pathlib takes as long again
        except FileNotFoundError:
            # Another process set the index aside, or somebody deleted it: no two have the same name.
            path = self._path = str(self._locate())
        return path

    def _connection(self, path: str) -> sqlite3.Connection:
        while self._idle:
            try:
                of, db = self._idle.pop()
            except IndexError:
                break
            if of == path:
                return db
            db.close()
        return self._open(path)

    def _open(self, path: str) -> sqlite3.Connection:
        db = opened(Path(path), timeout=self._busy_seconds)
        try:
            version = self._age(db)
            if version > VERSION:  # migrated while we were here
                raise StoreVersionError(found=version, known=VERSION)
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute("PRAGMA synchronous = NORMAL")
            if not self._writing:
                db.execute("PRAGMA query_only = ON")
        except BaseException:
            db.close()
            raise
        return db

    def _age(self, db: sqlite3.Connection) -> int:
        """Return the version of the schema, once whoever makes the file is done with it.

        A new index lies in its place before it has tables; one that never gets any is damaged.
        """
        deadline = time.monotonic() + self._busy_seconds
        while (version := version_of(db)) < VERSION:
            if time.monotonic() >= deadline:
                raise sqlite3.DatabaseError("malformed: there are no tables of ours")
            time.sleep(0.005)
        return version


class Loan:
    """One connection of a pool, while a `with` statement lasts. It comes back only where all went well.

    A class, since Python's way to write one as a generator takes longer than the question to the index.
    """

    __slots__ = ("_db", "_path", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __enter__(self) -> sqlite3.Connection:
        self._path, self._db = self._pool.take()
        return self._db

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._pool.give_back(self._path, self._db)
            return
        self._db.close()
        if is_malformed(error):
            raise IndexMalformedError(Path(self._path), error) from error
