"""Bytes that were just answered, at hand by their digest: what a client asks for next.

What the store keeps is believed while the index says nothing went or changed; then it is asked again.
What nobody keeps (a bypassed request's picture) stays for ten minutes, so that its URL works.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from ..results.store import ResultStore

KEPT_SECONDS = 600.0
"""How long a picture that is not (yet) in the index can be fetched by its URL."""

LOOK_SECONDS = 0.01
"""So long what is removed elsewhere may still be had: asking the index each time costs as much as a hit."""


@dataclass(slots=True)
class Item:
    """One blob in memory, and who may have it."""

    data: bytes
    media_type: str
    saves: dict[str | None, float] = field(default_factory=dict)
    """By namespace: seconds of rendering that its picture cost there."""
    generations: dict[str | None, int] = field(default_factory=dict)
    """By namespace (None: any): when the index last said that an entry points here."""
    until: dict[str, float] = field(default_factory=dict)
    """By namespace: how long it may be had without the index."""

    def saved(self, namespace: str | None) -> float:
        """Return the seconds of rendering that whoever sees this namespace (None: all) saves by it."""
        known = self.saves.get(namespace)
        if known is None and namespace is None:
            known = min(self.saves.values(), default=None)
        return known or 0.0


class Shelf:
    """Blobs by digest under a cap of bytes, the least recently used going first. Any thread may call."""

    def __init__(
        self, store: ResultStore, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._clock = clock
        self._items: OrderedDict[str, Item] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._known_generation = 0
        self._asked_at = -LOOK_SECONDS

    @property
    def held_bytes(self) -> int:
        return self._bytes

    def put_fresh(
        self, digest: str, data: bytes, media_type: str, namespace: str, saves: float = 0.0
    ) -> None:
        """Hold what was just rendered, for those who see this namespace."""
        with self._lock:
            item = self._put(digest, data, media_type)
            item.saves[namespace] = saves
            item.until[namespace] = self._clock() + KEPT_SECONDS

    def put_known(
        self,
        digest: str,
        data: bytes,
        media_type: str,
        namespace: str | None,
        generation: int,
        saves: float,
    ) -> None:
        """Hold what the index knew in this namespace (None: in any) when it had this generation."""
        with self._lock:
            item = self._put(digest, data, media_type)
            item.generations[namespace], item.saves[namespace] = generation, saves

    def get(self, digest: str, namespace: str | None) -> Item | None:
        """Return the blob if it is at hand and this namespace may have it. Raises StoreError.

        Quick enough for an event loop. None says nothing about the index.
        """
        item = self._items.get(digest)
        if item is None:
            return None
        known = item.generations.get(namespace)
        if (known is None or known != self._generation()) and not self._is_fresh(item, namespace):
            return None
        with self._lock:
            if digest in self._items:
                self._items.move_to_end(digest)
        return item

    def drop(self, digest: str, namespace: str | None) -> None:
        """Let go of what this namespace (None: every one) sees of a blob."""
        with self._lock:
            item = self._items.get(digest)
            if item is None:
                return
            if namespace is None:
                self._forget(digest)
                return
            item.generations.clear()
            item.until.pop(namespace, None)

    def clear(self, namespace: str | None) -> None:
        """Let go of everything that this namespace (None: every one) sees."""
        for digest in list(self._items):
            self.drop(digest, namespace)

    def _generation(self) -> int:
        """Return the index's generation, of a hundredth of a second ago at most."""
        now = self._clock()
        if now >= self._asked_at + LOOK_SECONDS:
            self._known_generation, self._asked_at = self._store.generation(), now
        return self._known_generation

    def _is_fresh(self, item: Item, namespace: str | None) -> bool:
        now = self._clock()
        if namespace is None:
            return any(until > now for until in item.until.values())
        return item.until.get(namespace, 0.0) > now

    def _put(self, digest: str, data: bytes, media_type: str) -> Item:
        item = self._items.get(digest)
        if item is None:
            item = self._items[digest] = Item(data, media_type)
            self._bytes += len(data)
        self._items.move_to_end(digest)
        while self._bytes > self._max_bytes and len(self._items) > 1:
            self._forget(next(iter(self._items)))
        return item

    def _forget(self, digest: str) -> None:
        item = self._items.pop(digest, None)
        if item is not None:
            self._bytes -= len(item.data)
