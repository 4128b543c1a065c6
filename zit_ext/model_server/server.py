"""The model server's conversations: who asks, what for, and what becomes of those who leave.

It renders through whatever it is given, and keeps no pictures: they go back to whoever asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ..errors import EngineClosedError, ZitError
from ..models.holdings import Holdings
from ..pipeline import Rendered, Watcher
from ..records import FieldValue, ModelRef, Request
from . import protocol
from .connection import Connection, Peer, welcome
from .protocol import ProtocolError, ServerLostError
from .records_on_wire import error_to_wire, from_wire, to_wire

log = logging.getLogger(__name__)

MOST_STRANGERS = 32
"""Connections that have not proved yet that they know the token."""
MOST_CONNECTIONS = 1024


class Weights(Protocol):
    """Whoever renders here: a local renderer, or a stand-in of it."""

    async def render(self, request: Request, watcher: Watcher) -> Rendered: ...
    async def preload(self, model: ModelRef) -> None: ...
    async def unload(self, model: ModelRef) -> bool: ...
    async def unload_all(self) -> int: ...
    async def give_back(self, wanted_bytes: int) -> int: ...
    async def park_all(self) -> None: ...
    def holdings(self) -> Holdings: ...


class ModelServer:
    """Serves one device's weights to all who know the token. Lives on one loop.

    `prepare` and `finish` see each request before and after its render: what plugins here have to do
    with it. `publish` remembers the environment of a model that was hashed after its render.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        token: str,
        idle_timeout: float,
        prepare: Callable[[Request, Mapping[str, FieldValue]], tuple[Request, str | None]],
        finish: Callable[[Request, Mapping[str, FieldValue], Rendered, str | None], Rendered],
        publish: Callable[[str, Mapping[str, FieldValue]], None],
    ) -> None:
        self._weights = weights
        self._token = token
        self._idle_timeout = idle_timeout
        self._prepare = prepare
        self._finish = finish
        self._publish = publish
        self._asked_at = time.monotonic()
        self._at_work = 0
        self._strangers = 0
        self._conversations: set[asyncio.Task[None]] = set()
        self._resting: set[Connection] = set()
        self._ended = asyncio.Event()
        self._retiring = False

    def end(self) -> None:
        """End soon: whoever waits is sent home."""
        self._ended.set()

    async def serve(self, listener: socket.socket) -> None:
        """Answer until somebody says `stop`, or nobody has asked for long enough."""
        listener.setblocking(False)
        accepting = asyncio.ensure_future(self._accept(listener))
        idling = asyncio.ensure_future(self._watch_idle())
        try:
            await asyncio.wait(
                [accepting, idling, ending := asyncio.ensure_future(self._ended.wait())],
                return_when=asyncio.FIRST_COMPLETED,
            )
            ending.cancel()
        finally:
            accepting.cancel()
            idling.cancel()
            await asyncio.gather(accepting, idling, return_exceptions=True)

    async def close(self, patience: float = 5.0) -> None:
        """End all conversations. After the weights are closed, so that each has its answer."""
        for connection in self._resting:
            connection.close()
        if self._conversations:
            _, late = await asyncio.wait(list(self._conversations), timeout=patience)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("a connection could not be accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            if self._strangers >= MOST_STRANGERS or len(self._conversations) >= MOST_CONNECTIONS:
                sock.close()
                continue
            task = loop.create_task(self._converse(Connection(sock)))
            self._conversations.add(task)
            task.add_done_callback(self._conversations.discard)

    async def _watch_idle(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, (self._idle_timeout or 1.0) / 4))
            if self._at_work:
                continue
            idle = time.monotonic() - self._asked_at
            if self._retiring or (self._idle_timeout and idle >= self._idle_timeout):
                log.info("the server ends: %s", "a newer one comes" if self._retiring else "nobody asks")
                return

    async def _converse(self, connection: Connection) -> None:
        try:
            peer = await self._welcome(connection)
            header, body = await connection.receive(protocol.HANDSHAKE_SECONDS)
            while True:
                self._at_work += 1
                try:
                    await self._answer(connection, peer, header, body)
                finally:
                    self._at_work -= 1
                    if header.get("op") != protocol.HOLDINGS:  # who only looks keeps nobody awake
                        self._asked_at = time.monotonic()
                header, body = await self._next_question(connection)
        except (ProtocolError, ServerLostError) as error:
            # Strangers get no word: neither an error nor a hint of who lives here.
            log.debug("a conversation ended: %s", error)
        except Exception:
            log.exception("a conversation failed")
        finally:
            connection.close()

    async def _next_question(self, connection: Connection) -> tuple[dict[str, Any], bytes]:
        self._resting.add(connection)
        try:
            while True:
                header, body = await connection.receive(protocol.REST_SECONDS)
                if header.get("op") != protocol.CANCEL:  # it came too late for the last one
                    return header, body
        finally:
            self._resting.discard(connection)

    async def _welcome(self, connection: Connection) -> Peer:
        self._strangers += 1
        try:
            return await welcome(connection, self._token)
        finally:
            self._strangers -= 1

    async def _answer(self, connection: Connection, peer: Peer, header: dict[str, Any], body: bytes) -> None:
        wanted = header.get("op")
        if wanted == protocol.RETIRE:
            self._retiring = True
            await connection.send({"op": protocol.DONE})
            return
        if wanted == protocol.STOP:
            await connection.send({"op": protocol.DONE})
            self.end()
            return
        if not peer.is_alike:
            raise ProtocolError(f"a client of version {peer.version} asked for {wanted}")
        work = self._works().get(str(wanted))
        if work is None:
            raise ProtocolError(f"nobody knows {wanted!r} here")
        told = from_wire(header.get("what"), body)
        news = News()
        try:
            if self._retiring or self._ended.is_set():
                raise EngineClosedError("the model server is about to end")
            answer = await self._while_connected(connection, news, work(told, news))
        except ServerLostError:
            raise
        except Exception as error:
            if not isinstance(error, ZitError):
                log.exception("%s failed", wanted)
            if self._ended.is_set() and not news.wants_stop():
                # Stopped because the server ends: its client still wants the picture.
                error = EngineClosedError("the model server was told to end")
            await connection.send({"op": protocol.FAILED, "error": error_to_wire(error)})
            return
        said, data = to_wire(answer)
        await connection.send({"op": protocol.DONE, "what": said}, data)

    def _works(self) -> Mapping[str, Any]:
        weights = self._weights
        return {
            protocol.RENDER: self._render,
            protocol.PRELOAD: lambda model, news: weights.preload(model),
            protocol.UNLOAD: lambda model, news: weights.unload(model),
            protocol.UNLOAD_ALL: lambda _, news: weights.unload_all(),
            protocol.PARK: lambda _, news: weights.park_all(),
            protocol.GIVE_BACK: lambda wanted, news: weights.give_back(int(wanted)),
            protocol.HOLDINGS: lambda _, news: self._holdings(),
            protocol.PUBLISH: self._remember,
        }

    async def _render(self, told: Any, news: News) -> Rendered:
        request, fields = told["request"], told["fields"]
        prepared, doubt = self._prepare(request, fields)
        rendered = await self._weights.render(prepared, news)
        return self._finish(prepared, fields, rendered, doubt)

    async def _holdings(self) -> Holdings:
        return self._weights.holdings()

    async def _remember(self, told: Any, news: News) -> None:
        self._publish(told["digest"], told["record"])

    async def _while_connected(self, connection: Connection, news: News, work: Any) -> Any:
        """Return what the work gives. If its client leaves, it is given up, and ServerLostError raised."""
        working = asyncio.ensure_future(work)
        listening = asyncio.ensure_future(_listen(connection, news))
        telling = asyncio.ensure_future(_tell(connection, news))
        try:
            await asyncio.wait([working, listening, telling], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                working.cancel()
                await asyncio.wait([working])
                raise ServerLostError("the client left before it had its answer")
            news.end()
            with contextlib.suppress(ServerLostError):
                await telling  # it ends when the last step is told
            return working.result()
        finally:
            for task in (working, listening, telling):
                task.cancel()
            await asyncio.gather(working, listening, telling, return_exceptions=True)


class News:
    """What happens to one render, for its client: the newest step and preview, never a queue of them.

    Written on the thread that renders; a client that reads slowly misses steps and holds nothing up.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._step: tuple[int, int] | None = None
        self._preview: bytes | None = None
        self.changed = asyncio.Event()
        self.ended = False

    def step(self, done: int, total: int) -> None:
        self._step = (done, total)
        self._wake()

    def preview(self, png: bytes) -> None:
        self._preview = png
        self._wake()

    def wants_stop(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()

    def end(self) -> None:
        """Nothing more will come."""
        self.ended = True
        self.changed.set()

    def take(self) -> list[tuple[dict[str, Any], bytes]]:
        """Return the messages to send now."""
        step, self._step = self._step, None
        preview, self._preview = self._preview, None
        messages: list[tuple[dict[str, Any], bytes]] = []
        if step is not None:
            messages.append(({"op": protocol.STEP, "done": step[0], "total": step[1]}, b""))
        if preview is not None:
            messages.append(({"op": protocol.PREVIEW}, preview))
        return messages

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self.changed.set)


async def _tell(connection: Connection, news: News) -> None:
    while True:
        try:
            await asyncio.wait_for(news.changed.wait(), protocol.ALIVE_SECONDS)
        except asyncio.TimeoutError:
            await connection.send({"op": protocol.ALIVE})
            continue
        news.changed.clear()
        ended = news.ended
        for header, data in news.take():
            await connection.send(header, data)
        if ended:
            return


async def _listen(connection: Connection, news: News) -> None:
    """Hear what the client still has to say, until it is gone."""
    while True:
        header, _ = await connection.receive(None, greeting=True)
        if header.get("op") == protocol.CANCEL:
            news.stop()
