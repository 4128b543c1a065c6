"""Asks the engine for one picture: a hit at once, a miss in the webui's queue. For the tab and `/zit/*`."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError, ThreadPoolExecutor

from zit_ext.errors import GenerationStoppedError, ServerError
from zit_ext.http.asking import if_kept
from zit_ext.http.errors import HttpError
from zit_ext.pipeline import Watcher
from zit_ext.records import ModelRef, Request, Result
from zit_ext.request_ids import bearing_id

from . import host, host_checkpoint, host_page, readiness

_one = ThreadPoolExecutor(max_workers=1, thread_name_prefix="zit-a1111-render")
"""The webui's queue lets one in at a time: more threads would only wait for it."""


def find(request: Request) -> Result | None:
    """Return the kept picture, None if there is none. Never waits for the queue. From a thread."""
    return asyncio.run(if_kept(host.engine(), request))


def render(request: Request, watcher: Watcher, *, free_checkpoint: bool = False) -> Result:
    """Return the picture; who calls has the webui's queue. From a thread.

    `free_checkpoint`: the webui's own model leaves the device first. Raises what the engine raises,
    ServerError where rendering is not set up, and GenerationStoppedError if the watcher wants to stop.
    """
    readiness.check()
    if free_checkpoint:
        host_checkpoint.free()
    try:
        return host.engine().generate_blocking(request, watcher, watcher.wants_stop)
    except CancelledError:
        raise GenerationStoppedError("the generation was stopped") from None


async def answer(request: Request, watcher: Watcher) -> Result:
    """Return the picture for a client of `/zit/v1/generate`: a miss waits for the webui's queue."""
    found = await if_kept(host.engine(), request)
    if found is not None:
        return found
    _check_for_a_client()

    def queued() -> Result:
        with host_page.queue():
            if watcher.wants_stop():
                raise GenerationStoppedError("the generation was stopped before it began")
            return render(request, watcher)

    return await asyncio.get_running_loop().run_in_executor(_one, bearing_id(queued))


async def preload(model: ModelRef) -> None:
    """Have weights on the device, for a client of `/zit/v1/models/preload`: in the webui's queue, too."""
    _check_for_a_client()

    def queued() -> None:
        with host_page.queue():
            host.engine().preload_blocking(model)

    await asyncio.get_running_loop().run_in_executor(_one, bearing_id(queued))


def _check_for_a_client() -> None:
    try:
        readiness.check()
    except ServerError as error:
        raise HttpError(503, "not_set_up", str(error)) from error
