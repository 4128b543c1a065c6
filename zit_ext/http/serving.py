"""Runs the HTTP API as a program: opens the door, closes half-open connections, ends in good order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from .aiohttp_app import Handler, handler
from .service import Service

log = logging.getLogger(__name__)

HEADER_SECONDS = 20.0
"""How long a connection may take to send the head of its first request."""

KEEP_ALIVE_SECONDS = 75.0
_LAST_SECONDS = 2.0


@dataclass(slots=True)
class _Seen:
    idle_since: float
    busy: int = 0
    asked: bool = False


class Doorkeeper:
    """Closes connections on which nothing is asked: those that send half a request, and wait."""

    def __init__(self, header_seconds: float = HEADER_SECONDS) -> None:
        self._header_seconds = header_seconds
        self._seen: dict[object, _Seen] = {}

    def watched(self, handle: Handler) -> Handler:
        """Return the handler, which tells from now on which connections are at work."""

        async def watch(request: web.BaseRequest) -> web.StreamResponse:
            connection = request.protocol
            seen = self._seen.get(connection)
            if seen is None:
                seen = self._seen[connection] = _Seen(time.monotonic())
            seen.busy += 1
            seen.asked = True
            try:
                return await handle(request)
            finally:
                seen.busy -= 1
                seen.idle_since = time.monotonic()

        return watch

    async def watch(self, server: web.Server) -> None:
        """Look at the connections until cancelled."""
        while True:
            now = time.monotonic()
            connections = set(server.connections)
            self._seen = {each: seen for each, seen in self._seen.items() if each in connections}
            for connection in connections:
                seen = self._seen.setdefault(connection, _Seen(now))
                patience = KEEP_ALIVE_SECONDS + self._header_seconds if seen.asked else self._header_seconds
                if not seen.busy and now - seen.idle_since > patience:
                    connection.force_close()
            await asyncio.sleep(min(1.0, self._header_seconds / 4))


async def serve(
    service: Service,
    *,
    host: str,
    port: int,
    ready: Callable[[int], None],
    stop: asyncio.Event,
    doorkeeper: Doorkeeper | None = None,
) -> None:
    """Answer requests until `stop` is set; then finish what runs, or hand it back.

    `ready` is told the port, which is chosen if 0 was asked for. Raises OSError if it cannot be had.
    """
    keeper = doorkeeper or Doorkeeper()
    # aiohttp's plain server: the service has routes of its own, and a second table would only cost time.
    server = web.Server(
        keeper.watched(handler(service)),
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
    )
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_LAST_SECONDS)
    await runner.setup()
    watching: asyncio.Task[None] | None = None
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        watching = asyncio.ensure_future(keeper.watch(server))
        ready(runner.addresses[0][1])
        await stop.wait()
        await _drain(service, site)
    finally:
        if watching is not None:
            watching.cancel()
        await runner.cleanup()


async def _drain(service: Service, site: web.TCPSite) -> None:
    """Begin nothing new; wait for what runs; then tell those who still wait to ask again."""
    service.limits.draining = True
    await site.stop()
    if await service.board.is_empty_within(service.runtime.settings.http_patience):
        return
    log.warning("%d renders are given up: the server ends", len(service.board.running()))
    service.limits.handing_back = True
    await service.board.is_empty_within(_LAST_SECONDS)
