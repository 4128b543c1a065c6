"""How often entries were used since the index last heard of it: a hit itself writes nothing."""

from __future__ import annotations

import threading
from typing import NamedTuple


class Use(NamedTuple):
    """The uses of one entry since the last flush."""

    key: str
    times: int
    used_at: float
    """By the wall clock."""
    now: float
    """By the store's time, from which a sliding time to live starts again."""
    saved_before: float = 0.0
    """Of the seconds that these uses are worth: what other hits had saved already."""


class Uses:
    """Gathers uses, in the order in which each entry was used last. Any thread may call."""

    def __init__(self) -> None:
        self._uses: dict[str, Use] = {}
        self._lock = threading.Lock()

    def note(self, key: str, used_at: float, now: float) -> None:
        with self._lock:
            before = self._uses.pop(key, None) or Use(key, 0, used_at, now)
            self._uses[key] = Use(key, before.times + 1, used_at, now, before.saved_before)

    def note_saved_before(self, key: str, seconds: float, used_at: float, now: float) -> None:
        """Say that the latest use of this entry saved so many seconds less than its work once took."""
        with self._lock:
            before = self._uses.get(key) or Use(key, 0, used_at, now)  # written down already
            self._uses[key] = before._replace(saved_before=before.saved_before + seconds)

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
                newer = self._uses.get(use.key) or use._replace(times=0, saved_before=0.0)
                self._uses[use.key] = newer._replace(
                    times=use.times + newer.times,
                    saved_before=use.saved_before + newer.saved_before,
                )

    def __bool__(self) -> bool:
        return bool(self._uses)
