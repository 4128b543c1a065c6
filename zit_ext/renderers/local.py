"""Renders in this process. The doors: what a caller, a host and the CLI may ask of one device."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from ..errors import EngineClosedError, QueueFullError
from ..models.budget import budget_of
from ..models.device_memory import DeviceMemory, available_ram, total_ram
from ..models.holder import Holder
from ..models.holdings import Holdings, alike, weights_key
from ..models.ledger import Ledger
from ..pipeline import Pipeline, Rendered, Watcher, load_device
from ..records import ModelRef, Request
from ..setting_values import by_name
from ..settings import Settings
from .device_thread import DeviceThread
from .dispatch import Dispatcher
from .line import Stoppable, Wish
from .neighbours import Neighbours


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a request for one model may expect of one device."""

    has_weights: bool
    """They are held, or being read, or somebody waits for them already."""
    wait_seconds: float
    """Until those have rendered who came before, about; without loads."""
    load_seconds: float | None
    """What reading these weights took here; None if that was not seen."""
    models: int
    """How many the device holds."""


class LocalRenderer:
    """Renders on one device of this process. Belongs to the loop on which it is first asked."""

    def __init__(
        self,
        settings: Settings,
        *,
        open_pipeline: Callable[[ModelRef], Pipeline],
        make_room: Callable[[int, str], int],
        ledger: Ledger | None = None,
        device: str | None = None,
        clock: Callable[[], float] = time.time,
        free_memory: Callable[[], int] | None = None,
        free_ram: Callable[[], int | None] = available_ram,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._device = device or settings.device
        self._limit = settings.queue_limit
        own_keep_alive = by_name(settings.model_keep_alive)
        self._open = open_pipeline
        self._thread = DeviceThread()
        self._holder = Holder(
            budget=budget_of(settings, total_ram()),
            memory=DeviceMemory(self._device, free_memory),
            make_room=self._make_room,
            keep_alive=lambda model: own_keep_alive.get(model.source, settings.keep_alive),
            ram_keep_alive=settings.ram_keep_alive,
            clock=clock,
            free_ram=free_ram,
            between_stages=self._thread.run_short,
        )
        self._desk = Dispatcher(
            self._holder,
            self._thread,
            open_pipeline=self._open_pipeline,
            load_timeout=settings.load_timeout,
            clock=clock,
            sleep=sleep,
            free_ram=free_ram,
        )
        self._ask_host = make_room
        self._neighbours: Neighbours | None = None
        if ledger is not None:
            self._neighbours = Neighbours(ledger, self._holder, park=self.give_back, busy=self._is_busy)

    async def render(self, request: Request, watcher: Watcher) -> Rendered:
        """Return the answer to one request, when its turn has come.

        Raises QueueFullError, EngineClosedError, GenerationStoppedError, and what the pipeline or its
        loading raised. Whoever is cancelled leaves the line at once, or ends the render at its next
        step and waits for that.
        """
        waiting = sum(ticket.wish is not None for ticket in self._desk.line)
        if waiting >= self._limit + (self._desk.running is None):
            seconds = max(1.0, waiting * self._desk.usual_seconds)
            raise QueueFullError(limit=self._limit, retry_after=seconds)
        self._watch_neighbours()
        rendered = await self._desk.serve(request.model, Wish(request, Stoppable(watcher)))
        if rendered is None:
            raise EngineClosedError("the renderer was closed")
        return rendered

    async def preload(self, model: ModelRef) -> None:
        """Have the model's weights here, and on the device as far as they fit beside what is there."""
        self._watch_neighbours()
        await self._desk.serve(model, None)

    async def unload(self, model: ModelRef) -> bool:
        """Let go of the model's weights, after its render if it renders; say whether any were held.

        A reference without identity names everything of its source.
        """
        while (loading := self._desk.loading) is not None and (
            loading.key == weights_key(model) or (not model.identity and loading.model.source == model.source)
        ):
            await self._desk.loaded()
        gone = await self._free(self._holder.close_like, model, still=lambda each: alike(each, model))
        return bool(gone)

    async def unload_all(self) -> int:
        """Let go of all weights, of a model that renders after its render; return how many models."""
        return len(await self._free(self._holder.close_all, still=lambda _: True))

    async def give_back(self, wanted_bytes: int) -> int:
        """Move idle weights off the device until so many bytes are freed; return how many were.

        At the next moment between two stages, if something renders.
        """
        return 0 if self._desk.closed else await self._thread.run_soon(self._holder.park, wanted_bytes)

    def give_back_blocking(self, wanted_bytes: int, patience: float = 1.0) -> int:
        """`give_back` for a host's thread, which gets an answer within so many seconds.

        What could not be freed by then is freed later. Also from inside `zit_make_room`.
        """
        return self._thread.run_blocking(self._holder.park, patience, wanted_bytes) or 0

    async def park_all(self) -> None:
        """Move all weights off the device into RAM, those of a model that renders after its render."""
        if not self._desk.closed:
            await self._thread.run_soon(self._holder.park_idle)
            await self._thread.run(self._holder.park_idle)  # what a render has brought there meanwhile

    def holdings(self) -> Holdings:
        """Return what is held and done at this moment. From any thread."""
        desk = self._desk
        running, loading = desk.running, desk.loading
        return replace(
            self._holder.snapshot,
            loads=desk.loads,
            load_seconds=desk.load_seconds,
            renders=desk.renders,
            queued=len(desk.line),
            running=running.model.source if running else None,
            loading=loading.model.source if loading else None,
            waiting=desk.waiting_preloads(),
        )

    def outlook(self, model: ModelRef) -> Outlook:
        """Return what a request for this model may expect here. On the loop."""
        desk, key = self._desk, weights_key(model)
        held = {each.key: each for each in self._holder.snapshot.models}
        ahead = sum(ticket.wish is not None for ticket in desk.line) + (desk.running is not None)
        coming = desk.loading is not None and desk.loading.key == key
        return Outlook(
            has_weights=key in held or coming or key in desk.line.keys(),  # noqa: SIM118 - no mapping
            wait_seconds=ahead * desk.usual_seconds,
            load_seconds=held[key].load_seconds if key in held else None,
            models=len(held),
        )

    async def close(self, patience: float = 30.0) -> None:
        """Send everybody home, stop what renders, let go of all weights. Twice is fine.

        What does not end within `patience` seconds is left behind.
        """
        if not self._desk.closed:
            await self._desk.close(patience)
        if self._neighbours is not None:
            await self._neighbours.close()

    def _watch_neighbours(self) -> None:
        if self._neighbours is not None and not self._desk.closed:
            self._neighbours.watch()

    def _is_busy(self) -> bool:
        return bool(self._desk.running or self._desk.loading or len(self._desk.line))

    def _make_room(self, needed: int, device: str) -> int:
        """Ask the host first, then our other processes. On the device's thread."""
        freed = self._ask_host(needed, device)
        return freed + (self._neighbours.make_room(needed, device) if self._neighbours is not None else 0)

    def _open_pipeline(self, model: ModelRef) -> Pipeline:
        token = load_device.set(self._device)
        try:
            return self._open(model)
        finally:
            load_device.reset(token)

    async def _free(
        self, close: Callable[..., list[str]], *args: object, still: Callable[[Any], bool]
    ) -> list[str]:
        """Close what is idle soon, and what renders after its render."""
        if self._desk.closed:
            return []
        gone = await self._thread.run_soon(close, *args)
        if any(still(model) for model in self._holder.snapshot.models):
            gone += await self._thread.run(close, *args)
        self._desk.plan()
        return gone
