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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from . import policy
from .errors import (
    EngineClosedError,
    GenerationStoppedError,
    HookHangsError,
    NotCachedError,
    PluginError,
    StoreError,
    StoreFullError,
    ZitError,
)
from .keeping import Keeper
from .metrics import Metrics
from .pipeline import Rendered, Renderer, Watcher
from .plugin_watch import WATCH
from .plugins import Hooks
from .policy import Bypass
from .questions import Environments, Files, Question, Questions, is_pending
from .records import CacheMode, Fingerprint, Outcome, Request, Result, Status
from .request_ids import bearing_id
from .results.claims import Busy, Claim
from .results.store import Found, ResultStore
from .settings import Settings
from .watching import Audience, wants_stop
from .workers import SingleFlight, in_thread

log = logging.getLogger(__name__)
T = TypeVar("T")


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
        # Look-ups have threads of their own: a hit never waits for a hash or a render.
        self._lookups = ThreadPoolExecutor(max_workers=4, thread_name_prefix="zit-lookup")
        self._questions = Questions(settings, hooks, environments)
        self._keeper = Keeper(self._questions, files, store, metrics, self._lookups, self._shrug)
        self._flights: SingleFlight[Result] = SingleFlight()
        self._audiences: dict[str, Audience] = {}
        self._answering: set[asyncio.Future[None]] = set()
        self._open = self._store_open = False

    async def open(self) -> Engine:
        """Open the store; without one the engine renders all the same."""
        try:
            await self._in(self._lookups, self.store.open)
            self._store_open = True
        except StoreError as error:
            self._shrug(error, "renders go on without the result store")
        self._open = True
        return self

    async def close(self, patience: float = 30.0) -> None:
        """Stop what renders, answer who waits, finish what was promised (digests in `patience` seconds)."""
        self._open = False
        await self.renderer.close()
        if self._answering:
            await asyncio.wait(self._answering, timeout=patience)
        await self._keeper.close(patience)
        if self._store_open:
            self._store_open = False
            await self._let_go_of_store()
        self._lookups.shutdown(wait=True)

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
        if not self._store_open:
            return Bypass("store_unavailable", "the result store could not be opened")
        try:
            return self._hooks.bypass(asked)
        except PluginError as error:
            self._shrug(error, "answering without the cache")
            return Bypass("plugin_failed", str(error))

    async def _question(self, request: Request) -> Question:
        return self._questions.of(await self._in(self._lookups, self._files.resolve, request))

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
            found = await self._find(known)
            if found is not None:
                return self._hit(question, found)
            stale = self._was_stale(known)
        if mode is CacheMode.ONLY:
            raise NotCachedError(
                known.key if known else None, question.unknown or "there is no stored answer"
            )
        claim: Claim | None = None
        if known is not None and mode is CacheMode.USE:
            taken = await self._claim(known, audience)
            if isinstance(taken, Found):
                return self._hit(question, taken)
            claim = taken
        try:
            return await self._miss(question, audience, stale)
        finally:
            if claim is not None:
                self._release(claim)

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
        resolved = self._questions.in_context(await self._in(self._lookups, self._files.resolve, request))
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

    # The store, whose faults cost a hit

    async def _find(self, known: Fingerprint) -> Found | None:
        try:
            return self.store.peek(known) or await self._in(self._lookups, self.store.find, known)
        except StoreError as error:
            self._shrug(error, "rendering instead")
            return None

    def _was_stale(self, known: Fingerprint) -> bool:
        try:
            return self.store.was_stale(known)
        except StoreError:
            return False  # the look-up met the same trouble, and said so

    async def _claim(self, known: Fingerprint, audience: Audience) -> Claim | Found | None:
        """Return the right to render this, or the answer that another process made meanwhile.

        Raises GenerationStoppedError and EngineClosedError while another process is at it.
        """
        try:
            while True:
                asking = asyncio.ensure_future(self._in(self._lookups, self.store.try_claim, known))
                try:
                    taken = await asyncio.shield(asking)
                except asyncio.CancelledError:
                    asking.add_done_callback(self._release_unused)
                    raise
                if not isinstance(taken, Busy):
                    return taken
                if audience.wants_stop():
                    raise GenerationStoppedError("the generation was stopped before it began")
                if not self._open:
                    raise EngineClosedError("the engine was closed")
                await asyncio.sleep(random.uniform(0.02, 0.1))
        except StoreError as error:
            self._shrug(error, "rendering without asking the other processes")
            return None

    def _release_unused(self, asking: asyncio.Future[Claim | Found | Busy]) -> None:
        """Give back a claim that came when its asker had left."""
        if asking.cancelled() or asking.exception() is not None:
            return
        taken = asking.result()
        if isinstance(taken, Claim):
            self._release(taken)

    def _release(self, claim: Claim) -> None:
        try:
            self.store.release(claim)
        except StoreError as error:
            self._shrug(error, "the claim will expire by itself")

    async def _let_go_of_store(self) -> None:
        """Close the store, however long it writes; but a hook that hangs in its thread must not hold us."""
        closing = asyncio.wrap_future(in_thread("zit-store-end", self._close_store))
        while not (await asyncio.wait([closing], timeout=0.2))[0]:
            for call in WATCH.running():
                if call.reported and call.hook == "zit_eviction_score":
                    closing.cancel()
                    self._shrug(HookHangsError(call.plugin, call.hook), "the newest results may be lost")
                    return

    def _close_store(self) -> None:
        try:
            self.store.close()
        except StoreError as error:
            self._shrug(error, "the newest results may be lost")

    def _shrug(self, error: Exception, consequence: str) -> None:
        # A full store is no fault: where it was met says nothing.
        fault = None if isinstance(error, StoreFullError) else error
        log.warning("%s; %s", error, consequence, exc_info=fault)
        self.metrics.event(type(error).__name__)

    async def _in(self, pool: ThreadPoolExecutor, function: Callable[..., T], *args: object) -> T:
        try:
            asked = asyncio.get_running_loop().run_in_executor(pool, bearing_id(function), *args)
        except RuntimeError as error:  # its threads have ended
            raise EngineClosedError("the engine was closed") from error
        return await asked


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
