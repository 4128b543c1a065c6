"""Asks the engine for one picture: a hit at once, a miss in the webui's queue. For the tab and `/zit/*`."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace

from zit_ext.errors import GenerationStoppedError, NotCachedError
from zit_ext.pipeline import Watcher
from zit_ext.records import CacheMode, Request, Result

from . import host, host_checkpoint, host_page

_one = ThreadPoolExecutor(max_workers=1, thread_name_prefix="zit-a1111-render")
"""The webui's queue lets one in at a time: more threads would only wait for it."""


def find(request: Request) -> Result | None:
    """Return the stored picture, None if there is none. Never waits for the queue. From a thread."""
    if request.cache is not CacheMode.USE:
        return None
    try:
        found = host.engine().generate_blocking(replace(request, cache=CacheMode.ONLY))
    except NotCachedError:
        return None
    return _asked_as(found, request)


def render(request: Request, watcher: Watcher, *, free_checkpoint: bool = False) -> Result:
    """Return the picture; who calls has the webui's queue. From a thread.

    `free_checkpoint`: the webui's own model leaves the device first. Raises what the engine raises, and
    GenerationStoppedError if the watcher wants to stop.
    """
    if free_checkpoint:
        host_checkpoint.free()
    try:
        return host.engine().generate_blocking(request, watcher, watcher.wants_stop)
    except CancelledError:
        raise GenerationStoppedError("the generation was stopped") from None


async def answer(request: Request, watcher: Watcher) -> Result:
    """Return the picture for a client of `/zit/v1/generate`: a miss waits for the webui's queue."""
    if request.cache is CacheMode.USE:
        try:
            found = await host.engine().generate(replace(request, cache=CacheMode.ONLY))
        except NotCachedError:
            pass
        else:
            return _asked_as(found, request)

    def queued() -> Result:
        with host_page.queue():
            if watcher.wants_stop():
                raise GenerationStoppedError("the generation was stopped before it began")
            return render(request, watcher)

    return await asyncio.get_running_loop().run_in_executor(_one, queued)


def _asked_as(found: Result, request: Request) -> Result:
    return replace(found, request=replace(found.request, cache=request.cache))
