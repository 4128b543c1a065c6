"""What people do with a store: list, search, explain, remove, pin, measure. For the CLI and dashboards."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from .desk import Desk
from .usage import Usage

T = TypeVar("T")


class Administration:
    """The doors for people. Each reads on the caller's thread and writes on the writer's."""

    def usage(self, namespace: str | None = None) -> Usage:
        """Return what the store holds, or one namespace of it."""
        return self._read(lambda db: self._usage(db, namespace))

    def _usage(self, db: sqlite3.Connection, namespace: str | None) -> Usage:
        raise NotImplementedError

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        raise NotImplementedError

    def _write(self, work: Callable[[Desk], T]) -> T:
        raise NotImplementedError
