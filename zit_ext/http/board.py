"""What is being made at this moment, and for whom. Feeds progress, interrupting and the live queue."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..records import Request


@dataclass(slots=True, eq=False)
class Running:
    """One picture that somebody waits for. It is the watcher of its render."""

    number: int
    id: str
    """Of the HTTP request."""
    namespace: str
    request: Request
    loop: asyncio.AbstractEventLoop
    changed: asyncio.Event
    started_at: float = field(default_factory=time.time)
    done: int = 0
    total: int = 0
    picture: bytes | None = None
    """How it looks so far, as PNG."""
    stopped: bool = False

    def step(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self._tell()

    def preview(self, png: bytes) -> None:
        self.picture = png
        self._tell()

    def wants_stop(self) -> bool:
        return self.stopped

    def stop(self) -> None:
        """Have the render stop at its next step, unless somebody else waits for it."""
        self.stopped = True
        self._tell()

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody listens any more
            self.loop.call_soon_threadsafe(self.changed.set)


class Board:
    """Everything that runs. Changed on the loops that serve, read from anywhere."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._running: dict[int, Running] = {}

    @contextlib.contextmanager
    def show(self, request: Request, id: str, changed: asyncio.Event) -> Iterator[Running]:
        """Show a request for as long as the context lasts."""
        loop = asyncio.get_running_loop()
        running = Running(next(self._numbers), id, request.namespace, request, loop, changed)
        self._running[running.number] = running
        try:
            yield running
        finally:
            self._running.pop(running.number, None)

    def running(self, namespace: str | None = None) -> list[Running]:
        """Return what runs, the oldest first; of one namespace, if one is named."""
        return [each for each in list(self._running.values()) if namespace in (None, each.namespace)]

    def stop(self, namespace: str | None = None, *, number: int | None = None) -> int:
        """Have renders stop at their next step, unless somebody else waits for them; return how many."""
        chosen = [each for each in self.running(namespace) if number in (None, each.number)]
        for each in chosen:
            each.stop()
        return len(chosen)

    async def is_empty_within(self, seconds: float) -> bool:
        """Wait until nothing runs, for so many seconds; tell whether that came about."""
        # Not an event: whoever serves may do so on several loops.
        for _ in range(round(seconds / 0.05)):
            if not self._running:
                return True
            await asyncio.sleep(0.05)
        return not self._running
