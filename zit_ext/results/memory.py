"""The memory tier: verified bytes of the answers used last, under a cap of its own.

Whether an answer still counts is not decided here: other processes may have removed it from disk.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from ..records import Encoded, Entry

_OVERHEAD = 2_000
"""Bytes that an answer takes beside its content: records, fields, the table's slot."""


@dataclass(slots=True)
class Held:
    """One answer in memory, and the generation of the index at which it was last known to be good."""

    entry: Entry
    content: Encoded
    canonical: bytes
    ttl_seconds: float | None
    generation: int


class Memory:
    """Answers by key, the least recently used going first. Any thread may call."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        return self._bytes

    def get(self, key: str) -> Held | None:
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
            return held

    def put(self, key: str, held: Held) -> None:
        """Hold an answer, if it fits at all; older ones make room."""
        size = _size(held)
        with self._lock:
            self._drop(key)
            if size > self._max_bytes:
                return
            self._held[key] = held
            self._bytes += size
            while self._bytes > self._max_bytes:
                _, oldest = self._held.popitem(last=False)
                self._bytes -= _size(oldest)

    def drop(self, key: str) -> None:
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        with self._lock:
            self._held.clear()
            self._bytes = 0

    def _drop(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._bytes -= _size(held)


def _size(held: Held) -> int:
    return len(held.content.data) + len(held.canonical) + _OVERHEAD
