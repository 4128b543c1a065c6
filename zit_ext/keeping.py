"""Brings results into the store: at once, or as soon as the weights they came from are hashed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from .errors import ZitError
from .fingerprint import canonical_bytes
from .lookups import Lookups
from .metrics import Metrics
from .pipeline import Rendered
from .questions import (
    Files,
    Question,
    Questions,
    identities_of,
    is_misnamed,
    is_unread,
    with_digests_of,
)
from .records import Request
from .results.store import ResultStore
from .workers import SingleFlight, Worker


class Offer(NamedTuple):
    """What became of a result that was offered to the store."""

    key: str | None
    accepted: bool
    detail: str | None
    """Why it was not accepted, or what it still waits for."""


class Keeper:
    """Offers results to the store under the key that the finished render proves."""

    def __init__(
        self,
        questions: Questions,
        files: Files,
        store: ResultStore,
        metrics: Metrics,
        lookups: Lookups,
        shrug: Callable[[Exception, str], None],
    ) -> None:
        self._questions = questions
        self._files = files
        self._store = store
        self._metrics = metrics
        self._lookups = lookups
        self._shrug = shrug
        # No pool: Python would wait for its threads at the end, however many gigabytes they still read.
        self._hasher = Worker("zit-hash")
        self._hashing: SingleFlight[Request | None] = SingleFlight()
        self._later: set[asyncio.Task[None]] = set()
        self._closing = False

    async def offer(self, question: Question, rendered: Rendered) -> Offer:
        """Offer what was rendered, and say what became of it. Raises nothing of the store's or a plugin's."""
        if not rendered.faithful:
            self._metrics.event("not_faithful")
            why = rendered.warnings[-1] if rendered.warnings else "a fallback changed the picture"
            return Offer(None, False, f"not kept: {why}")
        if rendered.media_type != question.request.media_type:
            # Plugins were asked about what was asked for; what they would say of this, nobody knows.
            self._metrics.event("another_medium")
            wanted = question.request.media_type
            return Offer(None, False, f"not kept: {wanted} was asked for, and this is {rendered.media_type}")
        if is_unread(question.request):
            # What their names promise is looked up at once; only bytes that were read are kept for.
            self._spawn(self._keep_when_hashed(question, rendered))
            key = question.known.key if question.known else None
            return Offer(key, True, "kept as soon as the weights are hashed")
        try:
            resolved = await self._resolve(question.request)
            return self._keep(question, resolved, rendered)
        except Exception as error:  # a LoRA that was moved meanwhile, a disk: the picture is made, and stays
            self._shrug(error, "the result is answered, but not kept")
            return Offer(None, False, f"not kept: {error if isinstance(error, ZitError) else repr(error)}")

    def hash_beside(self, request: Request) -> None:
        """Begin to hash the weights of the request while it renders."""
        self._spawn(self._hash_quietly(request))

    async def finish(self, patience: float) -> bool:
        """Finish what was promised if that takes at most `patience` seconds, and give up the rest.

        Say whether nothing was given up. From here on no digest is made: the end has come.
        """
        if self._later:
            await asyncio.wait(self._later, timeout=patience)
        self._closing = True
        return not self._later

    async def close(self, patience: float) -> None:
        """Finish what was promised if that takes at most `patience` seconds; nothing goes on after that."""
        await self.finish(patience)
        if self._later:
            await asyncio.wait(self._later)
        self._hasher.close()

    def _keep(self, question: Question, resolved: Request, rendered: Rendered) -> Offer:
        identified = self._questions.answered(question, resolved, rendered.environment)
        if isinstance(identified, str):
            self._metrics.event("changed_meanwhile")
            return Offer(None, False, f"not kept: {identified}")
        self._store.keep(
            identified,
            rendered.content,
            namespace=resolved.namespace,
            cost=rendered.seconds,
            ttl_seconds=resolved.ttl_seconds,
            model=resolved.model.source,
            prompt=resolved.prompt,
        )
        return Offer(identified.key, True, None)

    async def _keep_when_hashed(self, question: Question, rendered: Rendered) -> None:
        resolved = await self._hash(question.request)
        if resolved is None:
            self._metrics.event("not_hashed")
            return
        if is_misnamed(question.request, resolved):
            self._metrics.event("weights_misnamed")
        self._keep(question, resolved, rendered)

    async def _hash_quietly(self, request: Request) -> None:
        await self._hash(request)

    async def _hash(self, request: Request) -> Request | None:
        """Hash what is unknown, once for all who need it."""
        same = canonical_bytes(identities_of(request)).hex()
        completed, _shared = await self._hashing.join(same, lambda: self._complete(request))
        return None if completed is None else with_digests_of(request, completed)

    async def _complete(self, request: Request) -> Request | None:
        return await self._hasher.run(self._files.complete, request, self._is_closing)

    async def _resolve(self, request: Request) -> Request:
        return await self._lookups.run(self._files.resolve, request)

    def _is_closing(self) -> bool:
        return self._closing

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(self._shrugging(work))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _shrugging(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:
            self._shrug(error, "the result was answered, but is not kept")
