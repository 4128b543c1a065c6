"""From what a client sent to requests, and from requests to answers. Every dialect goes through here."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from .. import policy
from ..errors import GenerationStoppedError, RequestError
from ..pipeline import Watcher
from ..records import CacheMode, FileRef, InputImage, ModelRef, Request, Result
from ..request_json import image_of
from ..runtime import Runtime
from .auth import Scope
from .board import Running
from .errors import HttpError
from .service import Call

MAX_COUNT = 64
"""Pictures that one HTTP request may ask for."""

AHEAD = 8
"""Pictures of one HTTP request that wait for the engine at once; more would only fill its queue."""

_LOOK_SECONDS = 0.25
"""How often we look whether the client is still there."""


@dataclass(frozen=True, slots=True)
class Made:
    """One picture as bytes, and what the cache did for it."""

    result: Result
    data: bytes
    digest: str
    """SHA-256 of the data: the name of the blob."""

    @property
    def url(self) -> str:
        return f"/zit/blobs/{self.digest}"

    @property
    def base64(self) -> str:
        return base64.b64encode(self.data).decode("ascii")

    @property
    def data_url(self) -> str:
        return f"data:{self.result.media_type};base64,{self.base64}"

    @property
    def address(self) -> str:
        """The URL of the picture; the picture itself, if nobody was to keep it."""
        return self.data_url if self.result.request.cache.passes_by else self.url


def cache_mode(headers: Mapping[str, str]) -> CacheMode | None:
    """Return what a Cache-Control header asks for, if it asks for anything that we honour.

    Browsers say no-cache of every request while their own cache is off, and of a forced reload. They send
    `Pragma: no-cache` with it, which no other client does: nobody wished for a render.

    >>> cache_mode({"cache-control": "no-cache"}), cache_mode({"cache-control": "max-age=0"})
    (<CacheMode.REFRESH: 'refresh'>, None)
    >>> cache_mode({"cache-control": "no-cache", "pragma": "no-cache"})
    """
    by_itself = headers.get("pragma", "").lower() == "no-cache"
    asked = {each.strip().partition("=")[0].lower() for each in headers.get("cache-control", "").split(",")}
    for word, mode in (
        ("only-if-cached", CacheMode.ONLY),
        ("no-store", CacheMode.BYPASS),
        ("no-cache", CacheMode.REFRESH),
    ):
        if word in asked and not (mode is CacheMode.REFRESH and by_itself):
            return mode
    return None


def sent_image(value: Any) -> InputImage:
    """Return a picture that came as Base64, or as a data URL. Raises RequestError."""
    if not isinstance(value, str):
        raise RequestError("image", value, "send the bytes of a PNG, JPEG or WebP file as Base64")
    text = value.partition(",")[2] if value.startswith("data:") else value
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("image", "...", "send the bytes of a PNG, JPEG or WebP file as Base64") from None
    return image_of(data, "...")


def admitted(call: Call, request: Request, count: int) -> list[Request]:
    """Return the batch as this caller may ask for it, checked. Raises RequestError and HttpError."""
    who, catalogue = call.who, call.service.catalogue
    if Scope.ADMIN not in who.scopes:
        if request.keep_alive is not None:
            raise HttpError(403, "scope", "keep_alive needs a token with admin", field="keep_alive")
        if isinstance(request.priority, (int, float)) and request.priority > 0:
            raise HttpError(403, "scope", "a priority above 0 needs a token with admin", field="priority")
    named = None if request.namespace == "default" else request.namespace
    if named is not None and not isinstance(named, str):
        raise RequestError("namespace", named, "give a name")
    mode = cache_mode(call.asked.headers)
    request = replace(
        request,
        namespace=who.namespace_for(named),
        model=_known_model(catalogue.source_of, request.model),
        loras=tuple(_known(catalogue.source_of, "loras", lora) for lora in request.loras),
        cache=request.cache if mode is None else mode,
    )
    if request.cache == CacheMode.AUDIT:
        remedy = "audit an entry at /zit/v1/entries/KEY/audit; `bypass` renders past the cache"
        raise RequestError("cache", "audit", remedy)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_COUNT:
        raise RequestError("n", count, f"give a whole number from 1 to {MAX_COUNT}")
    checked = call.runtime.engine.at_the_door(request)
    return policy.batch_of(checked, count)


def _known(source_of: Any, field: str, ref: Any) -> Any:
    if not isinstance(ref, FileRef) or not isinstance(ref.source, str):
        raise RequestError(field, ref, "name weights as /v1/models lists them")
    return replace(ref, source=source_of(field, ref.source)) if ref.source else ref


def _known_model(source_of: Any, model: ModelRef) -> ModelRef:
    known: ModelRef = _known(source_of, "model", model)
    parts = {name: _known(source_of, f"model.{name}", part) for name, part in known.parts.items()}
    return replace(known, **parts)


class Making:
    """The pictures of one HTTP request, while they are made."""

    def __init__(self, call: Call, requests: Sequence[Request]) -> None:
        self._call = call
        self._requests = requests
        self._changed = asyncio.Event()
        self._places = asyncio.Semaphore(AHEAD)
        self.running: dict[int, Running] = {}
        """Those that are under way, by their place in the batch."""

    async def answers(self) -> list[Made]:
        """Return all pictures, in order. Raises what the engine raises, and HttpError if time is over."""
        async with contextlib.aclosing(self.changes()) as changes:
            async for _ in changes:
                pass
        return self.made

    @property
    def made(self) -> list[Made]:
        return self._task.result()

    async def changes(self, pause: float | None = None) -> AsyncGenerator[bool]:
        """Make the pictures; yield True whenever something moved, and False after a pause without.

        Whoever leaves early, or whose client is gone, stops the renders that nobody else waits for.
        """
        service, asked = self._call.service, self._call.asked
        started = time.monotonic()
        heard = started
        self._task = asyncio.ensure_future(self._all())
        waking: asyncio.Task[bool] | None = None
        try:
            while not self._task.done():
                waking = waking or asyncio.ensure_future(self._changed.wait())
                await asyncio.wait(
                    {self._task, waking}, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                now = time.monotonic()
                if waking.done():
                    waking = None
                    self._changed.clear()
                    heard = now
                    yield True
                elif pause is not None and now - heard > pause:
                    heard = now
                    yield False
                if self._task.done():
                    break
                if any(each.stopped for each in self.running.values()):
                    raise GenerationStoppedError("the generation was stopped")
                if asked.gone():
                    raise HttpError(499, "client_gone", "the client has left")
                if service.limits.seconds and now - started > service.limits.seconds:
                    raise HttpError(
                        504, "timed_out", f"no answer within {service.limits.seconds:g} seconds; ask again"
                    )
                if service.limits.handing_back:
                    raise HttpError(
                        503, "closing", "the server ends; ask again later", headers={"retry-after": "5"}
                    )
            self._task.result()
        finally:
            for task in (self._task, waking):
                if task is not None and not task.done():
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)

    async def _all(self) -> list[Made]:
        if len(self._requests) == 1:
            return [await self._one(0, self._requests[0])]
        tasks = [asyncio.ensure_future(self._one(place, each)) for place, each in enumerate(self._requests)]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, place: int, request: Request) -> Made:
        call = self._call
        async with self._places:
            with ExitStack() as stack:
                running = stack.enter_context(call.service.board.show(request, call.id, self._changed))
                self.running[place] = running
                stack.callback(self.running.pop, place, None)
                try:
                    result = await call.service.render(request, running)
                except asyncio.CancelledError:
                    running.stopped = True
                    raise
            return await self._as_bytes(result)

    async def _as_bytes(self, result: Result) -> Made:
        known = result.blob_digest
        if known is not None:
            made = Made(result, result.data(), known)
        else:
            data, digest = await asyncio.to_thread(_encoded, result)
            made = Made(result, data, digest)
        shelf, asked = self._call.service.shelf, result.request
        if not asked.cache.passes_by:
            saves = result.saved_seconds or result.render_seconds
            shelf.put_fresh(made.digest, made.data, result.media_type, asked.namespace, saves)
        return made


def _encoded(result: Result) -> tuple[bytes, str]:
    data = result.data()
    return data, hashlib.sha256(data).hexdigest()


def cache_headers(made: Sequence[Made]) -> dict[str, str]:
    """Return what every answer with pictures bears.

    Cache-Status has one member for each picture; the ETag of one picture is its blob's digest.
    """
    saved = sum(each.result.saved_seconds for each in made)
    return {
        "cache-status": ", ".join(each.result.status.header() for each in made),
        "x-generation-time-saved": f"{saved:.3f}",
        "etag": f'"{tag_of(made)}"',
    }


def tag_of(made: Sequence[Made]) -> str:
    if len(made) == 1:
        return made[0].digest
    return hashlib.sha256(" ".join(each.digest for each in made).encode()).hexdigest()


async def if_kept(runtime: Runtime, request: Request, watcher: Watcher | None = None) -> Result | None:
    """Return the answer if it is kept, None if it would be rendered: for hosts, whose own queue renders."""
    if request.cache is not CacheMode.USE:
        return None
    found = await runtime.find(request, watcher)
    return found and replace(found, request=replace(found.request, cache=request.cache))
