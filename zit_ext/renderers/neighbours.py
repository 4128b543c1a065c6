"""What a holder has to do with our other processes on its device: it parks for them, and asks them to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..models.holder import Holder
from ..models.ledger import Ledger

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25


class Neighbours:
    """Keeps this process's row in the ledger while it holds weights on the device, and answers asks.

    `park` moves so many bytes of idle weights off the device, asked from the loop; `busy` says whether
    weights may come there soon.
    """

    def __init__(
        self,
        ledger: Ledger,
        holder: Holder,
        *,
        park: Callable[[int], Awaitable[int]],
        busy: Callable[[], bool],
    ) -> None:
        self._ledger = ledger
        self._holder = holder
        self._park = park
        self._busy = busy
        self._watching: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """See to it that the row is kept and asks are heard, for as long as there is something to park."""
        if not self._holder.memory.is_ram and (self._watching is None or self._watching.done()):
            self._watching = asyncio.ensure_future(self._watch())

    def make_room(self, needed: int, device: str) -> int:
        """Ask the others to park if so many bytes are not free; return how many they freed.

        On the device's thread.
        """
        memory = self._holder.memory

        def lack() -> int:
            free = memory.free()
            return 0 if free is None else needed - free

        before = lack()
        if before <= 0:
            return 0
        try:
            self._ledger.ask_others(device, lack, meanwhile=self._answer_at_once)
        except OSError as error:
            log.warning("other processes cannot be asked to park: %s", error)
        return max(0, before - lack())

    async def close(self) -> None:
        """Hear no more asks, and take the row away."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        try:
            self._ledger.close()
        except OSError as error:
            log.warning("the ledger of the device is not tidy: %s", error)

    async def _watch(self) -> None:
        try:
            while not self._holder.memory.is_ram:
                self._tell()
                for ask in self._ledger.asks():
                    freed = await self._park(ask.bytes)
                    log.info("another process needs %d bytes: %d were parked", ask.bytes, freed)
                    self._tell()
                    self._ledger.answered(ask)
                if not self._holder.snapshot.vram_bytes and not self._busy():
                    return
                await asyncio.sleep(_LOOK_SECONDS)
        except OSError as error:
            log.warning("other processes do not hear what is held on the device: %s", error)

    def _tell(self) -> None:
        held = self._holder.snapshot
        self._ledger.tell(held.device, held.vram_bytes)

    def _answer_at_once(self) -> None:
        """On the device's thread, which waits for others just now: they may wait for it."""
        for ask in self._ledger.asks():
            self._holder.park(ask.bytes)
            self._ledger.answered(ask)
