"""SQLite's files as we keep them: a damaged one always says so by an error of SQLite's.

Python decodes names and messages as UTF-8, and lets a UnicodeDecodeError out where a bad disk changed a name
in the schema ("malformed database schema (...)"): no `except sqlite3.Error` would ever see that.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CODES = {11, 26}  # SQLITE_CORRUPT, SQLITE_NOTADB
_WORDS = (
    "malformed",
    "not a database",
    "no such table",
    "no such column",
    "unsupported file",
    "Could not decode",  # a text that is none
)


class Connection(sqlite3.Connection):
    """A connection whose faults are all sqlite3.Error: give it to sqlite3.connect as its `factory`."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        try:
            return super().execute(sql, parameters)
        except UnicodeDecodeError as error:
            raise _malformed(error) from error

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        try:
            return super().executemany(sql, parameters)
        except UnicodeDecodeError as error:
            raise _malformed(error) from error

    def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
        try:
            return super().executescript(sql_script)
        except UnicodeDecodeError as error:
            raise _malformed(error) from error


def opened(path: Path, *, timeout: float) -> sqlite3.Connection:
    """Open a database that is there, for any thread, without transactions of Python's own.

    SQLite itself would make an empty file where another process has just taken the database away. Raises
    FileNotFoundError then.
    """
    uri = path.absolute().as_uri()
    if path.drive.startswith("\\\\"):  # a share on Windows: to SQLite its host belongs to the path
        uri = uri.replace("file://", "file:////", 1)
    try:
        return sqlite3.connect(
            f"{uri}?mode=rw",
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )
    except sqlite3.OperationalError as error:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "no such database", str(path)) from error
        raise


def is_malformed(error: BaseException) -> bool:
    """Tell whether SQLite says that the file is damaged, and not merely busy, full or out of reach."""
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", None)  # Python 3.11
    if code is not None and code & 0xFF in _CODES:
        return True
    return any(words in str(error) for words in _WORDS)


def _malformed(error: UnicodeDecodeError) -> sqlite3.DatabaseError:
    return sqlite3.DatabaseError(f"malformed: a name in it is no text ({error.reason})")
