"""The engine's door to the result store: whatever is wrong behind it costs a hit, never a picture.

A store that cannot be opened (its drive is not mounted yet, its disk is full) is tried again every few
seconds, behind all requests; until then they are answered without it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import Future

from .errors import HookHangsError, StoreError
from .lookups import Lookups
from .plugin_watch import WATCH
from .records import Fingerprint
from .results.claims import Busy, Claim
from .results.store import Found, ResultStore
from .workers import in_thread

log = logging.getLogger(__name__)

RETRY_SECONDS = 15.0
"""How long after a failure the store is tried again."""


class StoreDoor:
    """Asks the store for the engine, and shrugs at its faults. Belongs to the engine's loop."""

    def __init__(self, store: ResultStore, lookups: Lookups, shrug: Callable[[Exception, str], None]) -> None:
        self._store = store
        self._lookups = lookups
        self._shrug = shrug
        self.is_open = False
        self.problem: str | None = None
        """Why the store could not be opened. Any thread may read it."""
        self._opening: Future[None] | None = None
        self._trying: asyncio.Task[None] | None = None

    # Opening and closing

    async def open(self) -> None:
        """Open the store; if that fails, go on trying behind everything else."""
        if not await self._try():
            self._trying = asyncio.ensure_future(self._go_on_trying())

    async def close(self) -> None:
        """Close the store, however long it writes; but a hook that hangs in its thread must not hold us."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.wait([self._trying])
            self._trying = None
        opening, self._opening = self._opening, None
        if self.is_open:
            self.is_open = False
            await self._let_go()
        elif opening is not None:
            # It may hang in a drive that does not answer. If it opens after all, nobody wants it.
            opening.add_done_callback(self._close_unwanted)

    async def _try(self) -> bool:
        # A thread of its own: a folder that does not answer must hold up no look-up.
        self._opening = in_thread("zit-store-open", self._store.open)
        try:
            await asyncio.wrap_future(self._opening)
        except StoreError as error:
            if str(error) != self.problem:
                self._shrug(error, "renders go on without the result store, which is tried again")
            self.problem = str(error)
            return False
        if self.problem is not None:
            log.warning("the result store could be opened at last")
        self.is_open, self.problem = True, None
        return True

    async def _go_on_trying(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if await self._try():
                return

    async def _let_go(self) -> None:
        closing = asyncio.wrap_future(in_thread("zit-store-end", self._close))
        while not (await asyncio.wait([closing], timeout=0.2))[0]:
            for call in WATCH.running():
                if call.reported and call.hook == "zit_eviction_score":
                    closing.cancel()
                    self._shrug(HookHangsError(call.plugin, call.hook), "the newest results may be lost")
                    return

    def _close_unwanted(self, opening: Future[None]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            in_thread("zit-store-end", self._close)

    def _close(self) -> None:
        try:
            self._store.close()
        except StoreError as error:
            self._shrug(error, "the newest results may be lost")

    # Asking

    async def find(self, known: Fingerprint) -> Found | None:
        """Return the answer kept for this, if it can be had."""
        try:
            return self._store.peek(known) or await self._lookups.run(self._store.find, known)
        except StoreError as error:
            self._shrug(error, "rendering instead")
            return None

    def was_stale(self, known: Fingerprint) -> bool:
        """Tell whether the last `find` of this met an answer whose time was over."""
        try:
            return self._store.was_stale(known)
        except StoreError:
            return False  # the look-up met the same trouble, and said so

    async def claim(self, known: Fingerprint, while_waiting: Callable[[], None]) -> Claim | Found | None:
        """Return the right to render this, or the answer that another process made meanwhile.

        While another process is at it, `while_waiting` is called now and then; what it raises is raised.
        """
        try:
            while True:
                asking = asyncio.ensure_future(self._lookups.run(self._store.try_claim, known))
                try:
                    taken = await asyncio.shield(asking)
                except asyncio.CancelledError:
                    asking.add_done_callback(self._release_unused)
                    raise
                if not isinstance(taken, Busy):
                    return taken
                while_waiting()
                await asyncio.sleep(random.uniform(0.02, 0.1))
        except StoreError as error:
            self._shrug(error, "rendering without asking the other processes")
            return None

    def release(self, claim: Claim) -> None:
        """Let go of a claim, once everything that was kept before is written."""
        try:
            self._store.release(claim)
        except StoreError as error:
            self._shrug(error, "the claim will expire by itself")

    def _release_unused(self, asking: asyncio.Future[Claim | Found | Busy]) -> None:
        """Give back a claim that came when its asker had left."""
        if asking.cancelled() or asking.exception() is not None:
            return
        taken = asking.result()
        if isinstance(taken, Claim):
            self.release(taken)
