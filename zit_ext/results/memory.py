"""The memory tier: verified bytes of the answers used last, under a cap of its own, and rows of many more.

Whether an answer still counts is not decided here: other processes may have removed it from disk.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from ..records import Encoded, Entry

MAX_ROWS = 2_000
"""Rows without their bytes that are remembered: some 3 kB each."""
_OVERHEAD = 2_000
"""Bytes that an answer takes beside its content: records, fields, the table's slot."""


@dataclass(slots=True)
class Known:
    """What a hit needs of one row, and the generation of the index at which it was last known to be good."""

    entry: Entry
    canonical: bytes
    """As asked: with the prompts, whatever the row keeps of them."""
    ttl_seconds: float | None
    checksum_kind: str
    checksum: bytes
    generation: int


class Held(NamedTuple):
    """One answer in memory."""

    known: Known
    content: Encoded


class Memory:
    """Answers and rows by key, the least recently used going first. Any thread may call."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._rows: OrderedDict[str, Known] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return self._bytes

    def get(self, key: str) -> Held | None:
        """Return the answer, if its bytes are here."""
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
            return held

    def row(self, key: str) -> Known | None:
        """Return what is known of an answer whose bytes are not here."""
        return self._rows.get(key)

    def put(self, key: str, held: Held) -> None:
        """Hold an answer, if it fits at all; older ones make room, and only their rows stay."""
        size = _size(held)
        with self._lock:
            self._drop(key)
            if size > self._max_bytes:
                self._remember(key, held.known)
                return
            self._held[key] = held
            self._bytes += size
            while self._bytes > self._max_bytes:
                other, oldest = self._held.popitem(last=False)
                self._bytes -= _size(oldest)
                self._remember(other, oldest.known)

    def drop(self, key: str) -> None:
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        with self._lock:
            self._held.clear()
            self._rows.clear()
            self._bytes = 0

    def _remember(self, key: str, known: Known) -> None:
        if self._max_bytes <= 0:
            return  # nothing is to be kept in memory
        self._rows[key] = known
        while len(self._rows) > MAX_ROWS:
            self._rows.popitem(last=False)

    def _drop(self, key: str) -> None:
        self._rows.pop(key, None)
        held = self._held.pop(key, None)
        if held is not None:
            self._bytes -= _size(held)


def _size(held: Held) -> int:
    return len(held.content.data) + len(held.known.canonical) + _OVERHEAD
