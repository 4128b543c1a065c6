"""One conversation over a socket: frames in both directions, and who may begin it.

Non-blocking sockets of the running loop, read straight into place: a picture of three megabytes is copied
once on each side.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .. import __version__
from .protocol import (
    HANDSHAKE_SECONDS,
    PREFIX,
    PROTOCOL,
    SEND_SECONDS,
    ProtocolError,
    ServerLostError,
    is_proof,
    pack,
    proof,
    read_header,
    unpack,
)

_BUFFER = 4_000_000
_ROOM = 4_000_000
"""Bytes: a picture of one megapixel, and some more."""
_spare: list[bytearray] = []


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is on the other side."""

    version: str
    protocol: int

    @property
    def is_alike(self) -> bool:
        """Whether it is of this very version: only then are pictures asked of it."""
        return self.version == __version__ and self.protocol == PROTOCOL


class Connection:
    """Frames over a connected socket. One sender and one receiver at a time; they may be two tasks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        self._socket = sock
        self.is_used_up = False
        """Whether this conversation is to be the last one."""

    async def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Send one message. Raises ServerLostError if the other side is gone or does not take it."""
        loop = asyncio.get_running_loop()
        with self._within(SEND_SECONDS):
            await loop.sock_sendall(self._socket, pack(header, len(body)))
            if body:
                await loop.sock_sendall(self._socket, body)

    async def receive(self, seconds: float | None, *, greeting: bool = False) -> tuple[dict[str, Any], bytes]:
        """Return the next message, which must be here within so many seconds.

        Raises ServerLostError at the end of the conversation or of the time, ProtocolError for what is
        no message.
        """
        with self._within(seconds):
            header_length, body_length = unpack(await self._exactly(PREFIX.size), greeting=greeting)
            header = read_header(await self._exactly(header_length))
            return header, await self._exactly(body_length)

    def is_quiet(self) -> bool:
        """Say whether the next question may go this way: the other side is there, and has said nothing."""
        if self.is_used_up:
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        return False  # it has ended the conversation, or says what nobody asked for

    def close(self) -> None:
        """End the conversation; whoever waits for a message here is woken. Twice is fine."""
        self._hang_up()
        self._socket.close()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _within(self, seconds: float | None) -> Iterator[None]:
        """Hang up when the time is over: whoever sends or receives is woken by that."""
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            self._hang_up()

        # No wait_for: before Python 3.12 it can swallow the cancellation of whoever waits.
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, give_up)
        try:
            yield
        except OSError as error:
            why = f"{seconds:g} seconds without a word" if late else str(error)
            raise ServerLostError(f"the connection was lost ({why})") from error
        finally:
            if timer is not None:
                timer.cancel()

    async def _exactly(self, length: int) -> bytes:
        loop = asyncio.get_running_loop()
        room = _room_for(length)
        with memoryview(room) as view:
            at = 0
            while at < length:
                count = await loop.sock_recv_into(self._socket, view[at:length])
                if count == 0:
                    raise ConnectionError("the other side ended it")
                at += count
            data = bytes(view[:length])
        if len(room) == _ROOM:
            _spare[:] = [room]
        return data


def _room_for(length: int) -> bytearray:
    """Return room for so many bytes; for pictures the same one again, since fresh pages cost milliseconds."""
    if 100_000 < length <= _ROOM:
        with contextlib.suppress(IndexError):
            return _spare.pop()
        return bytearray(_ROOM)
    return bytearray(length)


async def connect(port: int, token: str) -> tuple[Connection, Peer]:
    """Return a conversation with the server on this port that knows the token.

    Raises ServerLostError if there is none, ProtocolError if somebody else is there.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(sock, ("127.0.0.1", port)), HANDSHAKE_SECONDS)
        connection = Connection(sock)
        return connection, await _introduce(connection, token)
    except BaseException as error:
        sock.close()
        if isinstance(error, (OSError, asyncio.TimeoutError)):
            raise ServerLostError(f"there is no model server on port {port} ({error})") from None
        raise


async def welcome(connection: Connection, token: str) -> Peer:
    """Return who called, once he has proved that he knows the token.

    Raises ProtocolError: then say nothing.
    """
    hello, _ = await connection.receive(HANDSHAKE_SECONDS, greeting=True)
    theirs = hello.get("nonce")
    if hello.get("hello") != "zit_ext" or not isinstance(theirs, str):
        raise ProtocolError("not a client of zit_ext")
    ours = secrets.token_hex(16)
    await connection.send(
        {
            "version": __version__,
            "protocol": PROTOCOL,
            "nonce": ours,
            "proof": proof(token, "server", theirs, ours),
        }
    )
    answer, _ = await connection.receive(HANDSHAKE_SECONDS, greeting=True)
    if not is_proof(answer.get("proof"), token, "client", theirs, ours):
        raise ProtocolError("somebody called who does not know the token")
    return _peer(hello)


async def _introduce(connection: Connection, token: str) -> Peer:
    ours = secrets.token_hex(16)
    await connection.send({"hello": "zit_ext", "version": __version__, "protocol": PROTOCOL, "nonce": ours})
    answer, _ = await connection.receive(HANDSHAKE_SECONDS, greeting=True)
    theirs = answer.get("nonce")
    # The other side proves itself too: after a crash anybody may have got this port.
    if not isinstance(theirs, str) or not is_proof(answer.get("proof"), token, "server", ours, theirs):
        raise ProtocolError("somebody else answers on the port of the model server")
    await connection.send({"proof": proof(token, "client", ours, theirs)})
    return _peer(answer)


def _peer(said: Mapping[str, Any]) -> Peer:
    version, number = said.get("version"), said.get("protocol")
    if not isinstance(version, str) or not isinstance(number, int):
        raise ProtocolError("the other side does not say its version")
    return Peer(version, number)
