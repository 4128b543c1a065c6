"""Many callers may watch one render. Knows callers and steps; knows neither requests nor weights."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .pipeline import Watcher

log = logging.getLogger(__name__)


class Audience:
    """The watcher of a shared render: passes everything on to those who sit in it.

    The render stops when `stop` was called, or when everybody who could want it to does. Seats are
    taken and left on the loop; the render asks from its own thread.
    """

    def __init__(self) -> None:
        self.seats: tuple[Watcher | None, ...] = ()
        self._stopped = threading.Event()

    @contextmanager
    def seat(self, watcher: Watcher | None) -> Iterator[None]:
        """Watch for as long as the context lasts. None is a caller who only waits."""
        self.seats = (*self.seats, watcher)
        try:
            yield
        finally:
            number = next(number for number, each in enumerate(self.seats) if each is watcher)
            self.seats = (*self.seats[:number], *self.seats[number + 1 :])

    def stop(self) -> None:
        """End the render at its next step."""
        self._stopped.set()

    def step(self, done: int, total: int) -> None:
        self._tell(lambda watcher: watcher.step(done, total))

    def preview(self, png: bytes) -> None:
        self._tell(lambda watcher: watcher.preview(png))

    def wants_stop(self) -> bool:
        if self._stopped.is_set():
            return True
        seats = self.seats
        return bool(seats) and all(watcher is not None and wants_stop(watcher) for watcher in seats)

    def _tell(self, message: Callable[[Watcher], None]) -> None:
        for watcher in self.seats:
            if watcher is None:
                continue
            try:
                message(watcher)
            except Exception:
                # A host's progress bar must not cost the picture of everybody else.
                log.exception("a watcher failed; the render goes on")


def wants_stop(watcher: Watcher) -> bool:
    """Ask one watcher. One that fails wants nothing: others may be waiting for the picture."""
    try:
        return watcher.wants_stop()
    except Exception:
        log.exception("a watcher failed; the render goes on")
        return False
