"""`/zit/v1/events`: what happens, as it happens, for pages that are open. Server-sent events.

    hello    the first one: who listens
    answer   one answered request, as /zit/v1/answers has it
    stats    what is stored and counted, as /zit/v1/stats has it; at most every second, when it changed
    entry    {"change": "added", "key": ...}; or "changed", and key is null: some went or changed, look again
    queue    what is being made, as /zit/v1/queue has it, when it changed
    models   weights, as /zit/v1/models has it, when it changed
    missed   {"answers": n}: the listener was slower than the answers, and so many were left out

Answers are those of this process; entries come and go by all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from .. import __version__
from ..answered import Answered
from ..errors import StoreError, ZitError
from .administration import models_of, queue_of
from .answers import answer_json
from .auth import Scope
from .entries import stats_of
from .generating import EventStream
from .messages import EVENTS, Answer, event
from .queries import refuse
from .service import Call, Route

LOOK_SECONDS = 0.5
"""How often the queue is looked at; it costs no more than a look."""
STATS_SECONDS = 1.0
SUMS_SECONDS = 5.0
"""How often a listener with one namespace is told of hits, if no entry came or went."""
MODELS_SECONDS = 2.0
QUIET_SECONDS = 15.0
"""After so long without news a stream says that it is alive."""
MOST_WAITING = 256
"""Answers that wait for a slow listener; then the oldest are left out."""


def routes() -> list[Route]:
    return [Route("GET", "/zit/v1/events", events, scope=Scope.READ)]


async def events(call: Call) -> Answer:
    """Answer with a stream that ends when its listener leaves, or the server does."""
    query = dict(call.asked.query)
    namespace = call.who.seen_namespace(query.pop("namespace", None))
    refuse(query)
    return Answer(
        headers={"content-type": EVENTS, "cache-control": "no-store", "x-accel-buffering": "no"},
        body=EventStream(_events(call, namespace), call.service.limits.take_stream()),
    )


async def _events(call: Call, namespace: str | None) -> AsyncGenerator[bytes]:
    heard, looked = Heard(namespace), Looked(call, namespace)
    end = call.runtime.observer.answers.listen(heard.answered)
    try:
        yield event("hello", {"at": time.time(), "version": __version__, "namespace": namespace})
        told_at = time.monotonic()
        while not call.asked.gone() and not call.service.limits.draining:
            news = [("answer", answer_json(call, one)) for one in heard.take()]
            if heard.left_out:
                news.append(("missed", {"answers": heard.left_out}))
                heard.left_out = 0
            news += await looked.news()
            for name, value in news:
                yield event(name, value)
            now = time.monotonic()
            if news:
                told_at = now
            elif now - told_at > QUIET_SECONDS:
                told_at = now
                yield b": still here\n\n"
            await heard.wait(LOOK_SECONDS)
    finally:
        end()


class Heard:
    """The answers that one listener has not been told of yet."""

    def __init__(self, namespace: str | None) -> None:
        self._namespace = namespace
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Answered] = deque()
        self._something = asyncio.Event()
        self.left_out = 0

    def answered(self, one: Answered) -> None:
        """Take note of an answer, on the thread that answered."""
        if self._namespace in (None, one.namespace):
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._arrive, one)

    def _arrive(self, one: Answered) -> None:
        self._waiting.append(one)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.left_out += 1
        self._something.set()

    def take(self) -> list[Answered]:
        taken = list(self._waiting)
        self._waiting.clear()
        self._something.clear()
        return taken

    async def wait(self, seconds: float) -> None:
        """Wait until something is there, for so many seconds at most."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._something.wait(), seconds)


@dataclass(slots=True)
class _Topic:
    """Something that is told when it changed."""

    seconds: float
    due: float = 0.0
    told: Any = None

    def is_due(self, now: float) -> bool:
        if now < self.due:
            return False
        self.due = now + self.seconds
        return True

    def is_new(self, value: Any) -> bool:
        new = bool(value != self.told)
        self.told = value
        return new


@dataclass(slots=True)
class Looked:
    """What one listener was told of store, queue and weights."""

    call: Call
    namespace: str | None
    _queue: _Topic = field(default_factory=lambda: _Topic(LOOK_SECONDS / 2))
    _stats: _Topic = field(default_factory=lambda: _Topic(STATS_SECONDS))
    _models: _Topic = field(default_factory=lambda: _Topic(MODELS_SECONDS))
    _sums: _Topic = field(default_factory=lambda: _Topic(SUMS_SECONDS))
    _place: int | None = None
    _generation: int | None = None

    async def news(self) -> list[tuple[str, Any]]:
        """Return what changed since the last time, as far as it is time to look again."""
        now = time.monotonic()
        news: list[tuple[str, Any]] = []
        if self._queue.is_due(now):
            queue = queue_of(self.call, self.namespace)
            if self._queue.is_new(queue):
                news.append(("queue", queue))
        if self._stats.is_due(now):
            with contextlib.suppress(StoreError):  # nothing to tell; /zit/v1/health says why
                stats, entries = await asyncio.to_thread(self._look_at_store)
                news += [("entry", each) for each in entries]
                if stats is not None and self._stats.is_new(stats):
                    news.append(("stats", stats))
        if self._models.is_due(now):
            with contextlib.suppress(ZitError):
                models = await models_of(self.call)
                if self._models.is_new(models):
                    news.append(("models", models))
        return news

    def _look_at_store(self) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        store = self.call.runtime.store
        generation = store.generation()
        place, keys = store.arrivals(self._place, self.namespace)
        entries: list[dict[str, Any]] = [{"change": "added", "key": key} for key in keys]
        if self._generation not in (None, generation):
            entries.append({"change": "changed", "key": None})
        unchanged = (place, generation) == (self._place, self._generation)
        self._place, self._generation = place, generation
        # What a namespace has used is summed up over all entries (32 ms of 100,000): not every second.
        if self.namespace is not None and unchanged and not self._sums.is_due(time.monotonic()):
            return None, entries
        return stats_of(self.call, self.namespace), entries
