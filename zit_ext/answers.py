"""The latest answers of this process, for "why did this miss?", and whoever wants to hear of the next one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from itertools import islice

from .answered import Answered

MOST = 500
"""Answers that are remembered."""


class Answers:
    """A ring of the latest answers. Any thread may add, read and listen."""

    def __init__(self, most: int = MOST) -> None:
        self._latest: deque[Answered] = deque(maxlen=most)
        self._listeners: list[Callable[[Answered], object]] = []
        self._lock = threading.Lock()

    def add(self, one: Answered) -> None:
        """Remember an answer, and tell the listeners; they are called here, and must be quick."""
        with self._lock:
            self._latest.append(one)
            listeners = list(self._listeners)
        for each in listeners:
            each(one)

    def latest(self, limit: int = MOST, namespace: str | None = None) -> list[Answered]:
        """Return the latest answers, the newest first; of one namespace, if one is named."""
        with self._lock:
            newest_first = list(reversed(self._latest))
        return list(islice((one for one in newest_first if namespace in (None, one.namespace)), limit))

    def listen(self, listener: Callable[[Answered], object]) -> Callable[[], None]:
        """Tell this one of each answer from now on; return what ends it. Twice is fine."""
        with self._lock:
            self._listeners.append(listener)

        def end() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return end
