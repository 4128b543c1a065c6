"""The latest searches in prompts, remembered: a page of what was found costs no second search.

A search looks at every prompt. Who scrolls through what was found asks for many pages, each with its
count; the index says by three numbers whether anything changed in between.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import OrderedDict
from dataclasses import replace

from ..records import Entry
from .index import rows
from .selection import ORDERS, Selection

MOST = 8
"""Searches that are remembered; eight bytes for each entry that one found."""

_STAMP = "SELECT generation, sequence, (SELECT coalesce(max(id), 0) FROM entries) FROM totals"
_Stamp = tuple[int, ...]


class Searches:
    """What was found by the latest searches of one store. Any thread."""

    def __init__(self) -> None:
        self._found: OrderedDict[Selection, tuple[_Stamp, array[int]]] = OrderedDict()

    def page(self, db: sqlite3.Connection, selection: Selection, now: float) -> tuple[list[Entry], int]:
        """Return the entries of one page (of some hundreds at most), and how many fit whatever the limit."""
        found = self._all(db, selection, now)
        wanted = found[selection.offset : selection.offset + selection.limit]
        marks = ", ".join("?" * len(wanted))
        page = rows(db, f"WHERE e.id IN ({marks}) ORDER BY {ORDERS[selection.order]}", wanted.tolist())
        return [row.entry for row in page], len(found)

    def _all(self, db: sqlite3.Connection, selection: Selection, now: float) -> array[int]:
        """Return the rows of all entries that fit, in order."""
        # What grows with each change is read first: at worst what is remembered looks older than it is.
        stamp: _Stamp = db.execute(_STAMP).fetchone()
        everything = replace(selection, limit=0, offset=0)
        known = self._found.get(everything)
        if known is not None and known[0] == stamp:
            return known[1]
        found = array("q", (id for (id,) in db.execute(*everything.places(now))))
        if selection.stale is None:  # time alone changes that
            self._found[everything] = stamp, found
            while len(self._found) > MOST:
                self._found.popitem(last=False)
        return found
