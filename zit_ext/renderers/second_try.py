"""Out of memory: everything idle goes, we wait until that is really so, and try once more.

Drivers and allocators give memory back later than they say, so the second try waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from ..errors import GenerationStoppedError, OutOfMemoryError, ZitError
from ..models.holder import Holder
from ..pipeline import Pipeline, Rendered
from ..records import ModelRef
from .device_thread import DeviceThread
from .failures import outcome
from .line import Ticket, Wish
from .loading import Loader

log = logging.getLogger(__name__)

POLL_SECONDS = 0.25
MOST_SECONDS = 5.0

Sleep = Callable[[float], Awaitable[None]]


class SecondTry:
    """Renders and reads, and does so again when memory ran out, but only once."""

    def __init__(
        self,
        holder: Holder,
        thread: DeviceThread,
        sleep: Sleep,
        free_ram: Callable[[], int | None],
    ) -> None:
        self._holder = holder
        self._thread = thread
        self._sleep = sleep
        self._free_ram = free_ram

    async def render(self, ticket: Ticket, wish: Wish) -> Rendered | None:
        """Return the pipeline's answer, or None if its weights are not held (any more).

        Raises what went wrong, as one of our errors.
        """
        rendered = await self._attempt(ticket, wish)
        if isinstance(rendered, OutOfMemoryError):
            rendered = await self._once_more(ticket, wish, rendered)
        if isinstance(rendered, ZitError):
            raise rendered
        return rendered

    async def open(self, loader: Loader, model: ModelRef, expected_bytes: int) -> Pipeline:
        """Return the opened pipeline. Raises what went wrong, as one of our errors.

        `expected_bytes` is what the model will take of the RAM, about.
        """
        opened = await loader.open(model)
        if isinstance(opened, OutOfMemoryError):
            log.warning(
                "memory ran out while %r was read; everything idle goes, then once more", model.source
            )
            await self._thread.run(self._holder.close_all)
            needed = opened.needed or expected_bytes
            free = await until_free(self._available, needed, self._sleep)
            opened = await loader.open(model)
            if isinstance(opened, OutOfMemoryError):
                opened = OutOfMemoryError(
                    needed=opened.needed or needed, free=opened.free or free or 0, device=opened.device
                )
        if isinstance(opened, ZitError):
            raise opened
        return opened

    async def _attempt(self, ticket: Ticket, wish: Wish) -> Rendered | ZitError | None:
        doing, device = f"rendering with {ticket.model.source!r}", self._holder.memory.device
        return await self._thread.run(
            lambda: outcome(doing, device, self._holder.render, ticket.key, wish.request, wish.watcher)
        )

    async def _once_more(
        self, ticket: Ticket, wish: Wish, error: OutOfMemoryError
    ) -> Rendered | ZitError | None:
        device = self._holder.memory.device
        log.warning(
            "memory ran out on %s while %r rendered; everything idle is parked, then once more",
            device,
            ticket.model.source,
        )
        await self._thread.run(self._holder.expect_more, ticket.key)
        await self._thread.run(self._holder.clear_out, ticket.key)
        needed = await self._thread.run(self._holder.needed_bytes, ticket.key, wish.request)
        free = await until_free(self._free_bytes, max(needed, error.needed), self._sleep)
        if wish.watcher.wants_stop():
            return GenerationStoppedError("the generation was stopped while it waited for memory")
        again = await self._attempt(ticket, wish)
        if isinstance(again, OutOfMemoryError):
            # The next picture finds as much room as there can be.
            await self._thread.run(self._holder.clear_out, ticket.key)
            return OutOfMemoryError(
                needed=again.needed or needed, free=again.free or free or 0, device=device
            )
        return again

    async def _available(self) -> int | None:
        return self._free_ram()

    async def _free_bytes(self) -> int | None:
        return await self._thread.run(self._holder.memory.free)


async def until_free(ask: Callable[[], Awaitable[int | None]], needed: int, sleep: Sleep) -> int | None:
    """Return the free bytes once `needed` are free, or after five seconds; None if nobody knows them."""
    free = await ask()
    waited = 0.0
    while free is not None and free < needed and waited < MOST_SECONDS:
        await sleep(POLL_SECONDS)
        waited += POLL_SECONDS
        free = await ask()
    return free
