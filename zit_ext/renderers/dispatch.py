"""Decides what one device does next, and has it done: whose weights are read, who renders.

The loop decides. The device's thread owns the weights (`models.holder`) and renders. The loader's
thread reads, so that a load does not stall the renders of a model that is there.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..errors import EngineClosedError, ZitError
from ..models import placement
from ..models.holder import Holder
from ..models.holdings import Holdings, weights_key
from ..pipeline import Pipeline, Rendered
from ..records import ModelRef
from .device_thread import DeviceThread
from .failures import as_ours, forget_frames, outcome
from .line import Line, Ticket, Wish
from .loading import GivenUpError, Loader
from .prefetch import Prefetcher
from .second_try import SecondTry

log = logging.getLogger(__name__)


class Dispatcher:
    """The line of one device, and the tasks that serve it. Lives on one loop."""

    def __init__(
        self,
        holder: Holder,
        thread: DeviceThread,
        *,
        open_pipeline: Callable[[ModelRef], Pipeline],
        load_timeout: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        free_ram: Callable[[], int | None],
    ) -> None:
        self.line = Line()
        self.running: Ticket | None = None
        self.loading: Ticket | None = None
        self.loads = 0
        self.load_seconds = 0.0
        self.renders = 0
        self.usual_seconds = 10.0
        """What a render takes here, about; before the first one, a guess."""
        self.closed = False
        self._holder = holder
        self._thread = thread
        self._loader = Loader(open_pipeline, timeout=load_timeout, discard=self._discard)
        self._prefetcher = Prefetcher(free_ram)
        self._trying = SecondTry(holder, thread, sleep, free_ram)
        self._clock = clock
        self._numbers = itertools.count()
        self._leaving: frozenset[str] = frozenset()
        self._current: str | None = None
        self._owed: str | None = None
        self._sizes: dict[str, int] = {}
        self._warming: dict[int, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loaded: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._planned = False

    async def serve(self, model: ModelRef, wish: Wish | None) -> Rendered | None:
        """Return the answer to the wish when its turn has come; without a wish, have the weights here.

        Whoever is cancelled leaves the line at once, or ends the render at its next step and waits for
        that.
        """
        if self.closed:
            raise EngineClosedError("the renderer is closed")
        ticket = Ticket(
            key=weights_key(model),
            model=model,
            wish=wish,
            number=next(self._numbers),
            arrived_at=time.monotonic(),
            outcome=asyncio.get_running_loop().create_future(),
        )
        self.line.add(ticket)
        self.plan()
        try:
            return await ticket.outcome
        except asyncio.CancelledError:
            if self.line.remove(ticket):
                self.plan()
            else:
                if wish is not None:
                    wish.watcher.stop()
                await ticket.ended.wait()
            raise

    def waiting_preloads(self) -> tuple[str, ...]:
        """Return the sources of what is preloaded and neither read nor moved just now. From any thread."""
        loading, running = self.loading, self.running
        waiting = [
            ticket.model.source
            for ticket in self.line
            if ticket.wish is None and (loading is None or ticket.key != loading.key)
        ]
        # What is in RAM already comes near the device between two stages of what renders.
        return tuple(dict.fromkeys([*waiting, *(self._warming.copy().values() if running else ())]))

    async def loaded(self) -> None:
        """Return when the load that runs now has ended. One that nobody waits for is given up."""
        waited_for = self.line.keys()
        if self.loading is not None and self.loading.key not in waited_for:
            self._loader.give_up()
        if self._loaded is not None:
            await asyncio.wait([self._loaded])

    async def close(self, patience: float) -> None:
        """Send everybody home, stop what renders, let go of all weights."""
        self.closed = True
        if self._expiry is not None:
            self._expiry.cancel()
        for ticket in self.line:
            self._dismiss(ticket, EngineClosedError("the renderer was closed before this one's turn"))
        if self.running is not None and self.running.wish is not None:
            self.running.wish.watcher.stop()
        self._prefetcher.close()
        if self._loaded is not None:
            self._loaded.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=patience)
        letting_go = asyncio.ensure_future(self._thread.run(self._holder.close_all))
        done, _ = await asyncio.wait([letting_go], timeout=0.0 if self.running else patience)
        if done:
            self._thread.close(patience)
        else:
            # It hangs, and keeps what it has; the program ends all the same.
            letting_go.cancel()
            self._thread.abandon()

    # Deciding

    def plan(self) -> None:
        """Decide what to do next, once for all that happens in this turn of the loop."""
        if not self._planned and not self.closed:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._decide)

    def _decide(self) -> None:
        self._planned = False
        if self.closed:
            return
        held = self._holder.snapshot
        here = frozenset(model.key for model in held.models)
        waited_for = self.line.keys()
        if self._owed not in waited_for:
            self._owed = None
        for ticket in self.line:
            if ticket.wish is None and ticket.key in here - self._leaving:
                self.line.remove(ticket)
                self._start(self._warm(ticket))
        if self.loading is None:
            self._maybe_load(held, here)
        elif self.loading.key not in waited_for and not waited_for <= here:
            # It may hang, or take minutes; weights that somebody waits for come first.
            self._loader.give_up()
        if self.running is None:
            self._maybe_render(here - self._leaving)

    def _maybe_render(self, here: frozenset[str]) -> None:
        now = time.monotonic()
        chosen = self.line.choose(
            now,
            current=self._current,
            owed=self._owed,
            among=lambda ticket: ticket.wish is not None and ticket.key in here,
        )
        if chosen is None or chosen.wish is None:
            return
        self.running, self._current = chosen, chosen.key  # before it leaves the line: see `_wanted`
        self.line.take(chosen, now)
        if self._owed == chosen.key:
            self._owed = None
        self._start(self._render(chosen, chosen.wish))

    def _wanted(self) -> frozenset[str]:
        """Return the weights that somebody waits for, or renders with, begun or not. From any thread."""
        waited_for = self.line.keys()
        return waited_for if (running := self.running) is None else waited_for | {running.key}

    def _maybe_load(self, held: Holdings, here: frozenset[str]) -> None:
        """Start to read the weights of the first in line whose are not here.

        At once, where that disturbs nobody. Where it closes a model that others wait for, when their
        turn has come; until then its files are read ahead.
        """
        now = time.monotonic()
        target = self.line.choose(
            now, current=self._current, owed=self._owed, among=lambda ticket: ticket.key not in here
        )
        if target is None:
            return
        close: tuple[str, ...] = ()
        if target.key in self._sizes:
            wanted = self._wanted()
            plan = placement.plan_load(
                held,
                self._holder.budget,
                expected_bytes=self._sizes[target.key],
                wanted=wanted,
                now=self._clock(),
                one_memory=self._holder.memory.is_ram,
            )
            first = self.line.choose(now, current=self._current, owed=self._owed)
            its_turn = self.running is None and first is not None and first.key == target.key
            if not (plan.fits or self.running is None) or not (its_turn or wanted.isdisjoint(plan.close)):
                self._prefetcher.begin(target.model)
                return
            close = plan.close
        self._prefetcher.stop()
        self.loading, self._leaving = target, frozenset(close)
        self._loaded = self._start(self._load(target, close))

    # Doing

    def _dismiss(self, ticket: Ticket, answer: Rendered | ZitError | None) -> None:
        """Give the ticket its answer, or its error."""
        self.line.remove(ticket)
        ticket.ended.set()
        if ticket.outcome.done():
            return
        if isinstance(answer, BaseException):
            ticket.outcome.set_exception(answer)
        else:
            ticket.outcome.set_result(answer)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _load(self, ticket: Ticket, close: tuple[str, ...]) -> None:
        key, model = ticket.key, ticket.model
        try:
            if key in self._sizes:
                await self._read(key, model, close)
            else:
                # Known now; whether there is room is decided again.
                self._sizes[key] = await self._loader.size(model)
        except GivenUpError as error:
            log.info("%s", error)  # whoever has asked for it since has it read anew
        except Exception as error:
            # Whatever it was, nobody may wait for ever.
            self._load_failed(key, as_ours(error, f"reading {model.source!r}", "cpu"))
        finally:
            self.loading, self._leaving = None, frozenset()
            self._plan_expiry()
            self.plan()

    async def _read(self, key: str, model: ModelRef, close: tuple[str, ...]) -> None:
        """Read the weights and hand them to the holder. Raises what went wrong."""
        if close:
            await self._thread.run_soon(self._holder.close, close)
        started = time.perf_counter()
        pipeline = await self._trying.open(self._loader, model, self._sizes[key])
        seconds = time.perf_counter() - started
        try:
            await self._thread.run_soon(self._holder.adopt, model, pipeline, seconds)
        except BaseException:
            self._discard(pipeline)
            raise
        self.loads += 1
        self.load_seconds += seconds
        self._owed = key
        for held in self._holder.snapshot.models:
            if held.key == key:
                self._sizes[key] = sum(part.bytes for part in held.parts)

    def _load_failed(self, key: str, error: ZitError) -> None:
        """Tell all who wait for these weights; the next one who asks tries again."""
        forget_frames(error)
        for ticket in self.line:
            if ticket.key == key:
                self._dismiss(ticket, error)

    async def _warm(self, ticket: Ticket) -> None:
        self._warming[ticket.number] = ticket.model.source
        warmed: ZitError | None = EngineClosedError("the renderer was closed before the weights were there")
        try:
            warmed = await self._thread.run_soon(
                outcome,
                f"preparing {ticket.model.source!r}",
                self._holder.memory.device,
                self._holder.warm,
                ticket.key,
            )
        finally:
            del self._warming[ticket.number]
            self._dismiss(ticket, warmed)
        self._plan_expiry()

    async def _render(self, ticket: Ticket, wish: Wish) -> None:
        started = time.perf_counter()
        try:
            rendered = await self._trying.render(ticket, wish)
            if rendered is None:
                # Its weights went in the meantime: they are read again.
                self._put_back(ticket)
                return
            self.renders += 1
            self.usual_seconds += (time.perf_counter() - started - self.usual_seconds) / 4
            self._dismiss(ticket, rendered)
        except Exception as error:
            ours = as_ours(error, f"rendering with {ticket.model.source!r}", self._holder.memory.device)
            forget_frames(ours)
            self._dismiss(ticket, ours)
        finally:
            await self._settle()
            self.running = None
            self._plan_expiry()
            self.plan()

    async def _settle(self) -> None:
        settled = await self._thread.run(
            outcome, "parking", self._holder.memory.device, self._holder.settle, self.line.keys()
        )
        if settled is not None:
            log.warning("%s; the picture was rendered all the same", settled, exc_info=settled)

    def _put_back(self, ticket: Ticket) -> None:
        if self.closed:
            self._dismiss(ticket, EngineClosedError("the renderer was closed before this one's turn"))
        elif ticket.outcome.done():
            ticket.ended.set()
        else:
            self.line.add(ticket)

    def _discard(self, pipeline: Pipeline) -> None:
        """Let go of a pipeline that nobody holds."""
        try:
            self._thread.submit_soon(pipeline.close)
        except RuntimeError:
            pipeline.close()  # its thread has ended, and with it everything that could be in the way

    # Time

    def _plan_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self.closed:
            return
        seconds = placement.next_expiry(
            self._holder.snapshot.models, ram_keep_alive=self._holder.ram_keep_alive, now=self._clock()
        )
        if seconds is not None:
            later = asyncio.get_running_loop().call_later
            self._expiry = later(max(seconds, 0.01), lambda: self._start(self._expire()))

    async def _expire(self) -> None:
        # Whoever asks until the thread comes to it, is heard.
        await self._thread.run_soon(
            outcome, "parking", self._holder.memory.device, lambda: self._holder.expire(self._wanted())
        )
        self._plan_expiry()
