"""aiohttp's requests to Asked, and Answers back. The only module here that imports aiohttp.

`handler(service)` serves any aiohttp application, ComfyUI's among them, and aiohttp's plain server:

    app.router.add_route("*", "/zit/{rest:.*}", handler(service))
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web
from aiohttp.client_exceptions import ClientError

from .errors import HttpError, TooLargeError
from .messages import Answer, Asked, FilePart, Stream
from .service import Service

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_CHUNK = 1 << 18

_LARGE = 1 << 16
"""Bytes of a body from which on it costs more to copy it behind the head than to send it by itself."""


def handler(service: Service) -> Handler:
    """Return a handler for any aiohttp application or server."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        answer = await service.answer(asked_of(request))
        return await _send(request, answer)

    return handle


def asked_of(request: web.BaseRequest) -> Asked:
    """Return the request as the service understands it."""

    async def read(limit: int) -> bytes:
        length = request.content_length
        if length is not None and length > limit:
            raise TooLargeError(limit)
        data = bytearray()
        try:
            async for piece in request.content.iter_chunked(_CHUNK):
                data += piece
                if len(data) > limit:
                    raise TooLargeError(limit)
        except (ClientError, web.HTTPException, ValueError) as error:
            raise HttpError(400, "body_broken", "the body cannot be read") from error
        return bytes(data)

    def gone() -> bool:
        transport = request.transport
        return transport is None or transport.is_closing()

    return Asked(
        method=request.method,
        path=request.path,
        query=dict(request.query) if request.query_string else {},
        headers=request.headers,  # it finds them whatever their case
        read=read,
        gone=gone,
        secure=request.secure,
    )


async def _send(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    body = answer.body
    if isinstance(body, bytes):
        if len(body) >= _LARGE and request.method != hdrs.METH_HEAD and not isinstance(request, web.Request):
            return await _send_large(request, answer, body)
        return web.Response(status=answer.status, headers=answer.headers, body=body or None)
    if isinstance(body, FilePart):
        return await _send_file(request, answer, body)
    return await _send_stream(request, answer, body)


async def _send_large(request: web.BaseRequest, answer: Answer, body: bytes) -> web.StreamResponse:
    """Send the head, then the body: aiohttp would make one piece of both, which takes longer than to send it.

    Not in a host's application: its middlewares may add headers when they have the answer.
    """
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(body)
    with contextlib.suppress(ConnectionError):  # the client has left
        await response.prepare(request)
        await response.write_eof(body)
    return response


async def _send_file(request: web.BaseRequest, answer: Answer, part: FilePart) -> web.StreamResponse:
    """Let the kernel send a part of a file, where it can."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = part.length
    if request.method == hdrs.METH_HEAD:
        await response.prepare(request)
        return response
    try:
        file = await asyncio.to_thread(part.path.open, "rb")
    except OSError:
        return web.Response(status=404)  # evicted since it was found
    try:
        writer = await response.prepare(request)
        transport = request.transport
        if writer is None or transport is None:
            return response
        await writer.drain()
        await asyncio.get_running_loop().sendfile(transport, file, part.start, part.length)
    except ConnectionError:
        pass  # the client has left
    finally:
        await asyncio.to_thread(file.close)
    return response


async def _send_stream(request: web.BaseRequest, answer: Answer, body: Stream) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    async with contextlib.aclosing(body) as pieces:
        if request.method == hdrs.METH_HEAD:
            await response.prepare(request)
            return response
        try:
            await response.prepare(request)
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()
        except ConnectionError:
            pass  # the client has left; closing the stream stops its renders
    return response
