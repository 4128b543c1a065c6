"""Who is next: the requests that wait for a device, in a fair order. Knows no weights and no threads.

Priority first, then arrival. Requests for the model that rendered last may go first, since a switch
costs seconds, but nobody is overtaken so more than `MOST_OVERTAKEN` times while first in line. Who
waits rises by one priority for each `SECONDS_PER_RANK`, so that batch jobs end too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..pipeline import Rendered, Watcher
from ..records import ModelRef, Request

MOST_OVERTAKEN = 8
SECONDS_PER_RANK = 60.0


class Stoppable:
    """A watcher that can also be stopped by us."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def step(self, done: int, total: int) -> None:
        self._watcher.step(done, total)

    def preview(self, png: bytes) -> None:
        self._watcher.preview(png)

    def wants_stop(self) -> bool:
        return self._stopped.is_set() or self._watcher.wants_stop()


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """A request, and who watches its render."""

    request: Request
    watcher: Stoppable


@dataclass(slots=True, eq=False)
class Ticket:
    """One place in the line: of a wish, or of somebody who only wants the weights here (no wish)."""

    key: str
    """Names the weights."""
    model: ModelRef
    wish: Wish | None
    number: int
    """Order of arrival."""
    arrived_at: float
    outcome: asyncio.Future[Rendered | None]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Nothing works on it any more."""
    overtaken: int = 0

    def rank(self, now: float) -> tuple[int, int]:
        """Return what it is sorted by; the smallest is first in line."""
        risen = int(max(0.0, now - self.arrived_at) // SECONDS_PER_RANK)
        priority = self.wish.request.priority if self.wish else 0
        return -(priority + risen), self.number


class Line:
    """The tickets that wait."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[Ticket]:
        return iter(list(self._tickets))

    def add(self, ticket: Ticket) -> None:
        self._tickets.append(ticket)

    def remove(self, ticket: Ticket) -> bool:
        """Take the ticket out, and say whether it was there."""
        if ticket not in self._tickets:
            return False
        self._tickets.remove(ticket)
        return True

    def keys(self) -> frozenset[str]:
        """Return which weights are waited for. From any thread."""
        return frozenset(ticket.key for ticket in self)

    def choose(
        self,
        now: float,
        *,
        current: str | None,
        owed: str | None = None,
        among: Callable[[Ticket], bool] = lambda ticket: True,
    ) -> Ticket | None:
        """Return who is next among these, or None if there is nobody.

        `current` are the weights that rendered last. `owed` are weights that were read for somebody
        who waits: one render comes before they may go, or reading them would have been for nothing.
        """
        waiting = [ticket for ticket in self._tickets if among(ticket)]
        if not waiting:
            return None
        if promised := [ticket for ticket in waiting if ticket.key == owed]:
            return min(promised, key=lambda ticket: ticket.rank(now))
        first = min(waiting, key=lambda ticket: ticket.rank(now))
        if first.key == current or first.overtaken >= MOST_OVERTAKEN:
            return first
        equal = [
            ticket
            for ticket in waiting
            if ticket.key == current and ticket.rank(now)[0] == first.rank(now)[0]
        ]
        return min(equal, key=lambda ticket: ticket.rank(now), default=first)

    def take(self, ticket: Ticket, now: float) -> None:
        """Take out who was chosen, and remember whom it overtook."""
        first = min(self._tickets, key=lambda each: each.rank(now))
        if first is not ticket:
            first.overtaken += 1
        self.remove(ticket)
