"""ASGI's requests to Asked, and Answers back, for hosts that run Starlette or FastAPI. Imports neither.

app.router.routes.append(Route("/zit/{rest:path}", AsgiApp(service.answer)))
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl

from .errors import HttpError, TooLargeError
from .messages import Answer, Asked, FilePart, Stream

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_CHUNK = 1 << 18
_COMPRESSIBLE = ("text/html", "text/css", "text/javascript", "application/json", "image/svg+xml")


class AsgiApp:
    """An ASGI application around one service's door."""

    def __init__(self, answer: Callable[[Asked], Awaitable[Answer]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        incoming = _Incoming(scope, receive)
        try:
            answer = await self._answer(incoming.asked())
            await _send(answer, incoming, send)
        finally:
            incoming.leave()


class _Incoming:
    """One request: its body is read if somebody wants it, and whether the client left is watched."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive) -> None:
        self._scope = scope
        self._receive = receive
        self._watching: asyncio.Task[None] | None = None
        self.method = str(scope["method"])
        self.is_gone = False
        if self.method in ("GET", "HEAD", "OPTIONS", "DELETE"):
            self._watch()

    def asked(self) -> Asked:
        """Return the request as the service understands it."""
        scope = self._scope
        headers: dict[str, str] = {}
        for raw_name, raw in scope["headers"]:
            name, value = raw_name.decode("latin-1").lower(), raw.decode("latin-1")
            separator = "; " if name == "cookie" else ", "
            headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
        query = scope.get("query_string", b"").decode("latin-1")
        return Asked(
            method=self.method,
            path=path_of(scope),
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers=headers,
            read=self._read,
            gone=lambda: self.is_gone,
            secure=scope.get("scheme") == "https",
        )

    def leave(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _read(self, limit: int) -> bytes:
        if self._watching is not None:
            return b""
        told = next(
            (value for name, value in self._scope["headers"] if name.lower() == b"content-length"), b""
        )
        if told.isdigit() and int(told) > limit:
            raise TooLargeError(limit)
        data = bytearray()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.is_gone = True
                raise HttpError(400, "body_broken", "the body cannot be read")
            data += message.get("body", b"")
            if len(data) > limit:
                raise TooLargeError(limit)
            more = bool(message.get("more_body", False))
        self._watch()
        return bytes(data)

    def _watch(self) -> None:
        async def watch() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self.is_gone = True

        self._watching = asyncio.ensure_future(watch())


def path_of(scope: Mapping[str, Any]) -> str:
    """Return the path below where the host is mounted.

    >>> path_of({"path": "/webui/zit/v1/stats", "root_path": "/webui"})
    '/zit/v1/stats'
    >>> path_of({"path": "/zit/v1/stats", "root_path": "/webui"})  # servers before 2024 leave it out
    '/zit/v1/stats'
    """
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


async def _send(answer: Answer, incoming: _Incoming, send: Send) -> None:
    headers = dict(answer.headers)
    if answer.size is not None and answer.status not in (204, 304):
        headers["content-length"] = str(answer.size)
    if not headers.get("content-type", "").startswith(_COMPRESSIBLE):
        # Hosts compress whatever does not say how it is encoded: pictures in vain, parts of files to their
        # harm, and events so late that nobody sees them come.
        headers.setdefault("content-encoding", "identity")
    start = {
        "type": "http.response.start",
        "status": answer.status,
        "headers": [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
        ],
    }
    body = answer.body
    if isinstance(body, FilePart) and incoming.method != "HEAD":
        await _send_file(start, body, send)
        return
    if not isinstance(body, (bytes, FilePart)):
        await _send_stream(start, body, incoming, send)
        return
    await send(start)
    data = b"" if incoming.method == "HEAD" or isinstance(body, FilePart) else body
    await send({"type": "http.response.body", "body": data})


async def _send_file(start: Message, part: FilePart, send: Send) -> None:
    try:
        file = await asyncio.to_thread(_opened, part.path, part.start)
    except OSError:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return  # evicted since it was found
    with file:
        await send(start)
        left = part.length
        while left > 0:
            piece = await asyncio.to_thread(file.read, min(left, _CHUNK))
            if not piece:
                raise OSError(f"{part.path} is shorter than it was")  # the server cuts the connection
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
        if part.length == 0:
            await send({"type": "http.response.body", "body": b""})


def _opened(path: Path, start: int) -> IO[bytes]:
    file = path.open("rb")
    file.seek(start)
    return file


async def _send_stream(start: Message, body: Stream, incoming: _Incoming, send: Send) -> None:
    async with contextlib.aclosing(body) as pieces:
        await send(start)
        if incoming.method != "HEAD":
            async for piece in pieces:
                if incoming.is_gone:
                    return  # closing the stream stops its renders
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
