"""The page and the HTTP API on the host's own server, under /zit/.

Nothing of it is imported or started until somebody asks. Whoever reaches the host may ask, pages of other
sites may not; a token is needed where the setting `http_tokens` says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from zit_ext.pipeline import Watcher
from zit_ext.records import CacheMode, ModelRef, Request, Result
from zit_ext.renderers.several import InThisProcess
from zit_ext.runtime import Runtime

from . import host, queueing
from .missing import told_what_to_do
from .progress import Progress

log = logging.getLogger(__name__)

Answering = Callable[[Any], Awaitable[Any]]

_made: dict[Runtime, asyncio.Future[Answering]] = {}
"""The one door to the engine that runs, or is just being made. On the server's loop."""


def mount() -> None:
    """Answer under /zit/. What goes wrong costs the page, never the host."""
    try:
        host.add_route("/zit/{rest:.*}", answer)
    except Exception:
        log.exception("zit_ext: its page is not there; the nodes work without it")


async def answer(request: Any) -> Any:
    """Answer one of aiohttp's requests."""
    runtime = await asyncio.to_thread(host.engine)
    if runtime not in _made:
        _made.clear()
        # Whoever asks meanwhile waits for this one: there is one service, whoever else leaves.
        _made[runtime] = asyncio.ensure_future(asyncio.to_thread(_answering, runtime))
    made = _made[runtime]
    try:
        answering = await asyncio.shield(made)
    except Exception:
        if _made.get(runtime) is made:
            del _made[runtime]  # the next one tries again
        raise
    return await answering(request)


def _answering(runtime: Runtime) -> Answering:
    from zit_ext.http.aiohttp_app import handler
    from zit_ext.http.everything import zit_routes
    from zit_ext.http.gates import gate_of
    from zit_ext.http.service import Service

    # One line for each request is for the log of a server, and not for the host's console.
    logging.getLogger("zit_ext.http.service").setLevel(logging.WARNING)
    # The host answers its own origin only; so do we. Names are left to it where it listens on a network.
    settings = replace(runtime.settings, http_origins=())
    gate = gate_of(settings, hosts=host.is_local())
    rendering = Rendering(runtime)
    service = Service(
        runtime,
        routes=zit_routes(),
        gate=gate,
        render=rendering.render,
        preload=rendering.preload,
        queue_is_busy=rendering.queue_is_busy,
    )
    return handler(service)


class Rendering:
    """What is asked over HTTP and needs the device: it waits its turn in the host's queue."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def render(self, request: Request, watcher: Watcher) -> Result:
        """Return a picture: at once if it is kept, else when the host comes to it."""
        from zit_ext.http.asking import if_kept

        runtime = self._runtime
        if self._is_elsewhere() or request.cache is CacheMode.ONLY:
            return await runtime.generate(request, watcher)
        found = await if_kept(runtime, request, watcher)
        if found is not None:
            return found

        def on_hosts_thread() -> Result:
            progress = Progress(1, watcher)
            with told_what_to_do(runtime.settings):
                result = runtime.generate_blocking(request, progress, progress.interrupted)
            progress.show()
            return result

        return await queueing.in_hosts_queue(on_hosts_thread)

    async def preload(self, model: ModelRef) -> None:
        """Have weights near the device."""
        runtime = self._runtime
        if self._is_elsewhere():
            await runtime.preload(model)
            return

        def on_hosts_thread() -> None:
            with told_what_to_do(runtime.settings):
                runtime.preload_blocking(model, host.interrupted)

        await queueing.in_hosts_queue(on_hosts_thread)

    def queue_is_busy(self) -> bool:
        """Say whether what needs the device now has to wait for others in the host's queue."""
        return not self._is_elsewhere() and host.is_busy()

    def _is_elsewhere(self) -> bool:
        return not isinstance(self._runtime.renderer, InThisProcess)
