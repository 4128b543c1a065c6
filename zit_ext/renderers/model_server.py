"""Renders in the model server: a process that keeps the weights when this program ends. Imports no torch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import EngineClosedError, ServerError
from ..model_server import protocol
from ..model_server.connection import Connection
from ..model_server.home import ServerHome, State
from ..model_server.protocol import ProtocolError, ServerLostError
from ..model_server.provisioned import is_side
from ..model_server.records_on_wire import error_from_wire, from_wire, to_wire
from ..model_server.starting import ServerPython, reach, server_for
from ..models.holdings import Holdings
from ..models.server_environments import Facts, ServerEnvironments
from ..pipeline import Rendered, Watcher
from ..records import FieldValue, ModelRef, Request
from ..settings import Settings

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1
_MOST_RESTING = 4


class ServerRenderer:
    """Sends misses to the model server of the settings' device, and starts it where there is none.

    `fields` returns what this program's plugins say of a request as far as they act on renders. A server
    that dies with a request is replaced, and the request asked once more.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        fields: Callable[[Request], Mapping[str, FieldValue]] = lambda request: {},
    ) -> None:
        self._settings = settings
        self._home = ServerHome.of(settings)
        self._fields = fields
        self._closed = False
        self._asking: set[asyncio.Task[Any]] = set()
        self._resting: list[Connection] = []
        self.environments = ServerEnvironments(
            self._home.environments, facts=self._facts, tell=self._tell_environment
        )
        """What the server would render in: for the engine, which makes keys of it."""

    async def render(self, request: Request, watcher: Watcher) -> Rendered:
        """Return the answer to one request, rendered by the server.

        Raises what a local render raises, and ServerError if no server can be had. Whoever is cancelled
        leaves: the server ends the render at its next step, or forgets the request.
        """
        told = {"request": request, "fields": dict(self._fields(request))}
        try:
            rendered: Rendered = await self._ask(protocol.RENDER, told, watcher)
            return rendered
        except ServerLostError as lost:
            log.warning("the model server was lost while it rendered (%s); once more with a new one", lost)
        try:
            again: Rendered = await self._ask(protocol.RENDER, told, watcher)
        except ServerLostError as lost:
            raise ServerError(
                f"two model servers in a row were lost while they rendered this ({lost})",
                f"see {self._home.log}",
            ) from lost
        words = "the model server ended while it rendered this; a new one made the picture"
        return replace(again, warnings=(*again.warnings, words))

    async def preload(self, model: ModelRef) -> None:
        """Have the model's weights in the server, which is started for it if need be."""
        await self._patiently(protocol.PRELOAD, model)

    async def unload(self, model: ModelRef) -> bool:
        """Let go of the model's weights; say whether any were held. Starts no server."""
        return bool(await self._of_running(protocol.UNLOAD, model))

    async def unload_all(self) -> int:
        """Let go of all weights; return how many models that were. Starts no server."""
        return int(await self._of_running(protocol.UNLOAD_ALL, None) or 0)

    async def give_back(self, wanted_bytes: int) -> int:
        """Move idle weights off the device until so many bytes are freed; return how many were."""
        return int(await self._of_running(protocol.GIVE_BACK, wanted_bytes) or 0)

    async def park_all(self) -> None:
        """Move all weights off the device into RAM. Starts no server."""
        await self._of_running(protocol.PARK, None)

    async def holdings(self) -> Holdings | None:
        """Return what the server holds and does; None if none runs."""
        held: Holdings | None = await self._of_running(protocol.HOLDINGS, None)
        return held

    async def close(self, patience: float = 30.0) -> None:
        """Leave all conversations. The server stays: that is what it is for."""
        self._closed = True
        for task in list(self._asking):
            task.cancel()
        if self._asking:
            await asyncio.wait(list(self._asking), timeout=patience)
        while self._resting:
            self._resting.pop().close()

    # Conversations

    async def _patiently(self, wanted: str, what: object) -> Any:
        try:
            return await self._ask(wanted, what)
        except ServerLostError as lost:
            raise ServerError(f"the model server was lost ({lost})", f"see {self._home.log}") from lost

    async def _of_running(self, wanted: str, what: object) -> Any:
        """Ask the server if one of this version runs; otherwise there is nothing to ask for: None."""
        reached = await reach(self._home)
        if reached is None:
            return None
        connection, peer = reached
        try:
            if not peer.is_alike:
                return None
            told, body = to_wire(what)
            await connection.send({"op": wanted, "what": told}, body)
            return await _hear(connection, None)
        except (ServerLostError, EngineClosedError):
            return None
        finally:
            connection.close()

    async def _ask(self, wanted: str, what: object, watcher: Watcher | None = None) -> Any:
        """Ask a server, which is started for it if need be. Raises ServerLostError if it ends meanwhile."""
        if self._closed:
            raise EngineClosedError("the renderer is closed")
        asking = asyncio.ensure_future(self._start_and_ask(wanted, what, watcher))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            return await asking
        except asyncio.CancelledError:
            asking.cancel()
            if self._closed:
                raise EngineClosedError("the renderer was closed") from None
            raise

    async def _start_and_ask(self, wanted: str, what: object, watcher: Watcher | None) -> Any:
        told, body = to_wire(what)
        question = {"op": wanted, "what": told}
        connection = await self._asked_at_once(question, body)
        try:
            if connection is None:
                connection = await server_for(self._home, self._settings, ServerPython.of(self._settings))
                await connection.send(question, body)
            answer = await _hear(connection, watcher)
            self._rest(connection)
            connection = None
            return answer
        except EngineClosedError as error:
            # It is about to end, and this came too late: that is no reason to fail.
            raise ServerLostError(str(error)) from error
        finally:
            if connection is not None:
                connection.close()

    async def _asked_at_once(self, question: Mapping[str, Any], body: bytes) -> Connection | None:
        """Return a connection from before over which this was asked; None if there is none that lives."""
        while self._resting:
            connection = self._resting.pop()
            try:
                if connection.is_quiet():
                    await connection.send(question, body)
                    return connection
            except ServerLostError:
                pass
            except BaseException:
                connection.close()
                raise
            connection.close()
        return None

    def _rest(self, connection: Connection) -> None:
        """Keep the connection for the next question: a handshake less."""
        if self._closed or len(self._resting) >= _MOST_RESTING or not connection.is_quiet():
            connection.close()
        else:
            self._resting.append(connection)

    # What keys are made of

    def _facts(self) -> Facts | None:
        state = self._home.state()
        if state is not None:
            return {**state.facts, "runs": True}
        state = self._home.last_state()
        if state is not None and not self._would_start(state):
            return None
        return None if state is None else state.facts

    def _would_start(self, state: State) -> bool:
        """Say whether a server that starts now has this one's Python, and its packages beside that."""
        python = ServerPython.of(self._settings)
        first = python.environ.get("PYTHONPATH", "").partition(os.pathsep)[0]
        sides = {each for each in state.facts.get("path", ()) if is_side(each, self._settings)}
        last, next_one = Path(state.python), python.executable
        same_python = last.parent == next_one.parent and last.resolve() == next_one.resolve()
        return same_python and sides == ({first} if first else set())

    def _tell_environment(self, digest: str, record: Mapping[str, FieldValue]) -> None:
        with contextlib.suppress(RuntimeError):  # no loop runs: a later render tells it
            told = {"digest": digest, "record": dict(record)}
            telling = asyncio.get_running_loop().create_task(self._of_running(protocol.PUBLISH, told))
            self._asking.add(telling)
            telling.add_done_callback(self._asking.discard)


async def _hear(connection: Connection, watcher: Watcher | None) -> Any:
    """Return the server's answer to what was asked. Raises the error that it met, or ServerLostError."""
    stopping = None if watcher is None else asyncio.ensure_future(_pass_on_stop(connection, watcher))
    try:
        return await _answer(connection, watcher)
    except ProtocolError as error:
        raise ServerLostError(str(error)) from error
    finally:
        if stopping is not None:
            stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)


async def _answer(connection: Connection, watcher: Watcher | None) -> Any:
    teller = _Teller(watcher)
    try:
        while True:
            header, body = await connection.receive(protocol.SILENCE_SECONDS)
            said = header.get("op")
            if said == protocol.DONE:
                await teller.end()
                return from_wire(header.get("what"), body)
            if said == protocol.FAILED:
                raise error_from_wire(header.get("error") or {})
            if said == protocol.STEP:
                teller.tell(step=(int(header["done"]), int(header["total"])))
            elif said == protocol.PREVIEW:
                teller.tell(preview=body)
    finally:
        teller.leave()


class _Teller:
    """Passes the newest step and preview on to a watcher, on a thread: a host's progress bar may be slow."""

    def __init__(self, watcher: Watcher | None) -> None:
        self._watcher = watcher
        self._step: tuple[int, int] | None = None
        self._preview: bytes | None = None
        self._telling: asyncio.Task[None] | None = None

    def tell(self, *, step: tuple[int, int] | None = None, preview: bytes | None = None) -> None:
        self._step, self._preview = step or self._step, preview or self._preview
        if self._telling is None and self._watcher is not None:
            self._telling = asyncio.ensure_future(self._tell(self._watcher))

    async def end(self) -> None:
        """Return when all was told. Raises what the watcher raised."""
        if self._telling is not None:
            await self._telling

    def leave(self) -> None:
        """Tell no more."""
        if self._telling is not None:
            self._telling.cancel()

    async def _tell(self, watcher: Watcher) -> None:
        while self._step or self._preview:
            step, preview = self._step, self._preview
            self._step = self._preview = None
            if step is not None:
                await asyncio.to_thread(watcher.step, *step)
            if preview is not None:
                await asyncio.to_thread(watcher.preview, preview)
        self._telling = None


async def _pass_on_stop(connection: Connection, watcher: Watcher) -> None:
    while not watcher.wants_stop():  # noqa: ASYNC110 - a watcher is asked, it does not call
        await asyncio.sleep(_LOOK_SECONDS)
    connection.is_used_up = True  # the answer may cross this on its way
    with contextlib.suppress(ServerLostError):
        await connection.send({"op": protocol.CANCEL})
