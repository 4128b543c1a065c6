"""Asks the engine for one picture: a hit at once, a miss in the webui's queue. For `/zit/*`."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError, ThreadPoolExecutor

from zit_ext.errors import GenerationStoppedError
from zit_ext.http.asking import if_kept
from zit_ext.pipeline import Watcher
from zit_ext.records import Request, Result
from zit_ext.request_ids import bearing_id

from . import host, host_page

_one = ThreadPoolExecutor(max_workers=1, thread_name_prefix="zit-a1111-render")
"""The webui's queue lets one in at a time: more threads would only wait for it."""


async def answer(request: Request, watcher: Watcher) -> Result:
    """Return the picture for a client of `/zit/v1/generate`: a miss waits for the webui's queue."""
    found = await if_kept(host.engine(), request)
    if found is not None:
        return found

    def queued() -> Result:
        with host_page.queue():
            if watcher.wants_stop():
                raise GenerationStoppedError("the generation was stopped before it began")
            try:
                return host.engine().generate_blocking(request, watcher, watcher.wants_stop)
            except CancelledError:
                raise GenerationStoppedError("the generation was stopped") from None

    return await asyncio.get_running_loop().run_in_executor(_one, bearing_id(queued))
