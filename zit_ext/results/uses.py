"""How often entries were used since the index last heard of it: a hit itself writes nothing."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Use:
    """The uses of one entry since the last flush."""

    key: str
    count: int
    used_at: float
    """By the wall clock."""
    now: float
    """By the store's time, from which a sliding time to live starts again."""


class Uses:
    """Gathers uses, in the order in which each entry was used last. Any thread may call."""

    def __init__(self) -> None:
        self._uses: dict[str, Use] = {}
        self._lock = threading.Lock()

    def note(self, key: str, used_at: float, now: float) -> None:
        with self._lock:
            before = self._uses.pop(key, None)
            self._uses[key] = Use(key, 1 + (before.count if before else 0), used_at, now)

    def last(self, key: str) -> Use | None:
        """Return the uses of this entry that the index has not heard of."""
        return self._uses.get(key)

    def take(self) -> list[Use]:
        """Return all uses and forget them."""
        with self._lock:
            uses, self._uses = self._uses, {}
        return list(uses.values())

    def give_back(self, uses: list[Use]) -> None:
        """Take back what could not be written down."""
        with self._lock:
            for use in reversed(uses):
                newer = self._uses.get(use.key)
                count = use.count + (newer.count if newer else 0)
                self._uses[use.key] = Use(use.key, count, (newer or use).used_at, (newer or use).now)

    def __bool__(self) -> bool:
        return bool(self._uses)
