"""The engine: one request in, one result out.

Read `generate` downwards. Each step hands a record to the next, and nothing comes back up. Rooms
raise; the engine shrugs in one place, `_shrug`, aloud and counted: plugins and the disk may cost a
hit, never a picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from . import policy
from .errors import (
    EngineClosedError,
    GenerationStoppedError,
    NotCachedError,
    PluginError,
    StoreFullError,
    ZitError,
)
from .keeping import Keeper
from .lookups import Lookups
from .metrics import Metrics
from .pipeline import Rendered, Renderer, Watcher
from .plugins import Hooks
from .policy import Bypass
from .questions import Environments, Files, Question, Questions, is_pending
from .records import CacheMode, Outcome, Request, Result, Status
from .results.claims import Claim
from .results.store import Found, ResultStore
from .settings import Settings
from .store_door import StoreDoor
from .watching import Audience, wants_stop
from .workers import SingleFlight

log = logging.getLogger(__name__)


class Engine:
    """Answers requests: from the store when it can, from the renderer when it must.

    An engine belongs to the event loop it was opened on. `runtime` leads there from elsewhere.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        hooks: Hooks,
        files: Files,
        environments: Environments,
        store: ResultStore,
        renderer: Renderer,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.store = store
        self.renderer = renderer
        self._hooks = hooks
        self._files = files
        self._clock = clock
        self._lookups = Lookups()
        self._questions = Questions(settings, hooks, environments)
        self._door = StoreDoor(store, self._lookups, self._shrug)
        self._keeper = Keeper(self._questions, files, store, metrics, self._lookups, self._shrug)
        self._flights: SingleFlight[Result] = SingleFlight()
        self._audiences: dict[str, Audience] = {}
        self._answering: set[asyncio.Future[None]] = set()
        self._open = False

    @property
    def store_problem(self) -> str | None:
        """Why the store could not be opened, as long as it is not. Any thread may ask."""
        return self._door.problem

    async def open(self) -> Engine:
        """Open the store; without one the engine renders all the same."""
        await self._door.open()
        self._open = True
        return self

    async def close(self, patience: float = 30.0) -> None:
        """Stop what renders, answer who waits, finish what was promised (digests in `patience` seconds)."""
        self._open = False
        await self.renderer.close()
        if self._answering:
            await asyncio.wait(self._answering, timeout=patience)
        await self._keeper.close(patience)
        await self._door.close()
        self._lookups.close()

    async def finish(self, patience: float) -> bool:
        """Finish what was promised in `patience` seconds, at the end of a program; say if that was all."""
        return await self._keeper.finish(patience)

    async def generate(self, request: Request, watcher: Watcher | None = None) -> Result:
        """Answer one request.

        Raises RequestError, ModelError, GenerationStoppedError, QueueFullError, EngineClosedError, and
        NotCachedError if only a stored answer was wanted.
        """
        try:
            return await self._generate(request, watcher)
        except ZitError as error:
            self.metrics.event(f"answered_{type(error).__name__}")
            raise

    async def find(self, request: Request, watcher: Watcher | None = None) -> Result | None:
        """Answer one request if its answer is kept. None if it is not: that is no error, and not counted."""
        with contextlib.suppress(NotCachedError):
            return await self._generate(replace(request, cache=CacheMode.ONLY), watcher)
        return None

    async def _generate(self, request: Request, watcher: Watcher | None) -> Result:
        if not self._open:
            raise EngineClosedError("the engine is closed")
        started = time.perf_counter()
        asked = self.at_the_door(request)
        bypass = self._bypass(asked)
        asked = policy.with_seed(asked, random.SystemRandom().getrandbits)
        answered = asyncio.get_running_loop().create_future()
        self._answering.add(answered)
        try:
            result = await self._answer(asked, bypass, watcher)
        finally:
            self._answering.discard(answered)
            answered.set_result(None)
        result = replace(result, seconds=time.perf_counter() - started, request=asked)
        self._hooks.request_finished(asked, result, result.seconds)
        return result

    async def generate_many(
        self, requests: Sequence[Request], watcher: Watcher | None = None
    ) -> list[Result]:
        """Answer a batch: what is stored is a hit, the rest is rendered one by one, its prompt encoded once.

        All or nothing: the first error is raised, and what has not begun is given up.
        """
        for request in requests:
            self.at_the_door(request)  # a mistake in the last one must not cost the renders before it
        tasks = [asyncio.ensure_future(self.generate(request, watcher)) for request in requests]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    def at_the_door(self, request: Request) -> Request:
        """Return the request as the engine understands it. Raises RequestError."""
        return policy.at_the_door(policy.with_defaults(request, self.settings))

    # Who may use the cache, and under which name

    def _bypass(self, asked: Request) -> Bypass | None:
        if (own := policy.own_bypass(asked, self.settings)) is not None:
            return own
        if not self._door.is_open:
            return Bypass("store_unavailable", "the result store could not be opened; it is tried again")
        try:
            return self._hooks.bypass(asked)
        except PluginError as error:
            self._shrug(error, "answering without the cache")
            return Bypass("plugin_failed", str(error))

    async def _question(self, request: Request) -> Question:
        return self._questions.of(await self._lookups.run(self._files.resolve, request))

    # Answering

    async def _answer(self, request: Request, bypass: Bypass | None, watcher: Watcher | None) -> Result:
        if bypass is not None:
            return await self._without_cache(request, bypass, watcher)
        try:
            question = await self._question(request)
        except PluginError as error:
            self._shrug(error, "answering without the cache")
            return await self._without_cache(request, Bypass("plugin_failed", str(error)), watcher)
        while True:
            try:
                return await self._in_flight(question, watcher)
            except _StoppedByOthersError:
                # Whoever was there before us wanted no picture. We do: the next flight may be ours.
                if not self._open:
                    raise

    async def _in_flight(self, question: Question, watcher: Watcher | None) -> Result:
        """Start the run that answers this, or share it. Raises _StoppedByOthersError."""
        shared = False
        audience = self._audiences.setdefault(question.flight, Audience())
        try:
            with audience.seat(watcher):
                shared = self._flights.is_under_way(question.flight)
                result, shared = await self._flights.join(
                    question.flight, lambda: self._find_or_render(question, audience)
                )
        except GenerationStoppedError as error:
            if shared and not (watcher is not None and wants_stop(watcher)):
                raise _StoppedByOthersError(str(error)) from error
            raise
        finally:
            if not audience.seats and self._audiences.get(question.flight) is audience:
                audience.stop()
                del self._audiences[question.flight]
        if not shared:
            return result
        status = replace(result.status, collapsed=True)
        saved = result.saved_seconds or (result.seconds if status.outcome is Outcome.MISS else 0.0)
        return replace(result, status=status, saved_seconds=saved)

    async def _find_or_render(self, question: Question, audience: Audience) -> Result:
        mode, known = question.request.cache, question.known
        stale = False
        if known is not None and mode in (CacheMode.USE, CacheMode.ONLY):
            found = await self._door.find(known)
            if found is not None:
                return self._hit(question, found)
            stale = self._door.was_stale(known)
        if mode is CacheMode.ONLY:
            raise NotCachedError(
                known.key if known else None, question.unknown or "there is no stored answer"
            )
        claim: Claim | None = None
        if known is not None and mode is CacheMode.USE:
            taken = await self._door.claim(known, lambda: self._may_wait(audience))
            if isinstance(taken, Found):
                return self._hit(question, taken)
            claim = taken
        try:
            return await self._miss(question, audience, stale)
        finally:
            if claim is not None:
                self._door.release(claim)

    def _hit(self, question: Question, found: Found) -> Result:
        entry = found.entry
        ttl = None if entry.expires_at is None else max(0.0, entry.expires_at - self._clock())
        status = Status(outcome=Outcome.HIT, tier=found.tier, key=entry.key, ttl=ttl)
        return Result(
            content=found.content,
            stored_digest=entry.content_digest,
            blob_digest=entry.blob.digest,
            status=status,
            request=question.request,
            saved_seconds=entry.cost,
        )

    async def _miss(self, question: Question, audience: Audience, stale: bool) -> Result:
        if is_pending(question.request):
            self._keeper.hash_beside(question.request)
        rendered = await self._render(question.request, audience)
        offer = await self._keeper.offer(question, rendered)
        status = Status(
            outcome=Outcome.MISS,
            key=offer.key,
            stored=offer.accepted,
            detail=offer.detail or question.unknown,
            ttl=self._ttl(question.request) if offer.accepted else None,
            stale=stale,
        )
        return _rendered_result(question.request, rendered, status)

    async def _without_cache(self, request: Request, bypass: Bypass, watcher: Watcher | None) -> Result:
        if request.cache is CacheMode.ONLY:
            raise NotCachedError(None, f"the cache is bypassed: {bypass.words}")
        resolved = self._questions.in_context(await self._lookups.run(self._files.resolve, request))
        audience = Audience()
        with audience.seat(watcher):
            try:
                rendered = await self._render(resolved, audience)
            except asyncio.CancelledError:
                audience.stop()
                raise
        status = Status(outcome=Outcome.BYPASS, detail=bypass.words, reason=bypass.name)
        return _rendered_result(resolved, rendered, status)

    async def _render(self, request: Request, audience: Audience) -> Rendered:
        if not self._open:
            raise EngineClosedError("the engine was closed")
        try:
            return await self.renderer.render(request, audience)
        finally:
            self._questions.rendered(request)

    def _ttl(self, request: Request) -> float | None:
        seconds = self.settings.ttl_seconds if request.ttl_seconds is None else request.ttl_seconds
        return seconds or None

    def _may_wait(self, audience: Audience) -> None:
        """Raise GenerationStoppedError or EngineClosedError if nobody is to wait for another process."""
        if audience.wants_stop():
            raise GenerationStoppedError("the generation was stopped before it began")
        if not self._open:
            raise EngineClosedError("the engine was closed")

    def _shrug(self, error: Exception, consequence: str) -> None:
        # A full store is no fault: where it was met says nothing.
        fault = None if isinstance(error, StoreFullError) else error
        log.warning("%s; %s", error, consequence, exc_info=fault)
        self.metrics.event(type(error).__name__)


class _StoppedByOthersError(GenerationStoppedError):
    """A shared run was stopped by those who were there before."""


def _rendered_result(request: Request, rendered: Rendered, status: Status) -> Result:
    return Result(
        content=rendered.content,
        status=status,
        request=request,
        seconds=rendered.seconds,
        render_seconds=rendered.seconds,
        warnings=rendered.warnings,
    )
