"""Who does not know the token gets no word, holds nothing up, and learns nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from zit_ext.model_server import protocol
from zit_ext.model_server.connection import Connection, connect
from zit_ext.model_server.protocol import ProtocolError, ServerLostError, pack
from zit_ext.model_server.records_on_wire import from_wire, to_wire
from zit_ext.model_server.server import MOST_STRANGERS, ModelServer
from zit_ext.models.holdings import Holdings
from zit_ext.renderers.local import LocalRenderer
from zit_ext.settings import Settings
from zit_ext.testing import FakePipeline, fake_content, make_request

TOKEN = "k" * 64


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A server in this process that waits half a second for strangers."""
    monkeypatch.setattr("zit_ext.model_server.connection.HANDSHAKE_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "HANDSHAKE_SECONDS", 0.5)
    weights = LocalRenderer(
        Settings(device="cpu"), open_pipeline=lambda model: FakePipeline(), make_room=lambda wanted, device: 0
    )
    server = ModelServer(
        weights,
        token=TOKEN,
        idle_timeout=0.0,
        prepare=lambda request, fields: (request, None),
        finish=lambda request, fields, rendered, doubt: rendered,
        publish=lambda digest, record: None,
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        serving = asyncio.ensure_future(server.serve(listener))
        yield listener.getsockname()[1]
        server.end()
        await serving
    await weights.close()
    await server.close()


async def ask(port: int, wanted: str, what: object = None) -> object:
    connection, _ = await connect(port, TOKEN)
    try:
        told, body = to_wire(what)
        await connection.send({"op": wanted, "what": told}, body)
        while True:
            header, body = await connection.receive(60.0)
            if header["op"] == protocol.DONE:
                return from_wire(header["what"], body)
    finally:
        connection.close()


async def heard_by(port: int, said: bytes, *, end: bool = False) -> bytes:
    """Say something, and return everything that is answered until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)
    if end:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionError:
        return b""
    finally:
        writer.close()


HTTP = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n"
HELLO = {"hello": "zit_ext", "version": "0.1.0", "protocol": 1, "nonce": "n"}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"Z",
        HTTP,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        bytes(10_000),
        pack(HELLO, 0)[:20],
        pack(HELLO, 0)[:-1],
        pack({}, 0),
        pack({"hello": "zit_ext"}, 0),
        pack({"hello": "zit_ext", "nonce": 7}, 0),
        pack(HELLO, 5) + b"body!",
        struct.pack(">4sIQ", b"ZIT1", 2**32 - 1, 2**60),
        struct.pack(">4sIQ", b"ZIT1", 2, 0) + b"[]",
        struct.pack(">4sIQ", b"ZIT1", 4000, 0) + b"[" * 4000,
        struct.pack(">4sIQ", b"ZIT1", 2, 0) + b"\xff\xff",
    ],
)
async def test_garbage_gets_no_word_and_the_server_goes_on(port: int, said: bytes) -> None:
    assert await heard_by(port, said) == b""
    assert await heard_by(port, said, end=True) == b""
    assert isinstance(await ask(port, protocol.HOLDINGS), Holdings)


async def test_who_has_another_token_is_recognised_by_both_sides(port: int) -> None:
    with pytest.raises(ProtocolError, match="somebody else answers"):
        await connect(port, "w" * 64)

    # A client that goes on all the same, with a proof of its own making:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(pack(HELLO, 0))
    await reader.readexactly(protocol.PREFIX.size)
    writer.write(pack({"proof": protocol.proof("w" * 64, "client", "n", "n")}, 0))
    writer.write(pack({"op": protocol.STOP}, 0))
    assert b"done" not in await asyncio.wait_for(reader.read(), 60)
    writer.close()
    assert isinstance(await ask(port, protocol.HOLDINGS), Holdings)


async def test_what_the_server_proved_is_no_proof_of_a_client(port: int) -> None:
    """Nobody who only listens and repeats gets in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(pack(HELLO, 0))
    header, _ = protocol.unpack(await reader.readexactly(protocol.PREFIX.size))
    answer = protocol.read_header(await reader.readexactly(header))
    writer.write(pack({"proof": answer["proof"]}, 0) + pack({"op": protocol.STOP}, 0))
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()


async def test_silent_strangers_keep_nobody_out_for_long(port: int) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_STRANGERS + 8)]

    deadline = asyncio.get_running_loop().time() + 60
    while True:
        try:
            assert isinstance(await ask(port, protocol.HOLDINGS), Holdings)
            break
        except ServerLostError:
            assert asyncio.get_running_loop().time() < deadline

    for reader, writer in silent:
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


async def test_a_known_client_that_says_nonsense_is_sent_home(port: int) -> None:
    for header, body in [
        ({"op": "nonsense"}, b""),
        ({"op": protocol.RENDER, "what": {"r": ["Path", {}]}}, b""),
        ({"op": protocol.RENDER, "what": {"b": [0, 99]}}, b"short"),
        ({"op": protocol.RENDER, "what": [1]}, b""),
        ({"op": protocol.RENDER, "what": {"r": ["Request", {"prompt": "a", "seed": 1, "evil": 2}]}}, b""),
    ]:
        connection, _ = await connect(port, TOKEN)
        await connection.send(header, body)
        with pytest.raises(ServerLostError):
            await connection.receive(60.0)
        connection.close()
    assert isinstance(await ask(port, protocol.HOLDINGS), Holdings)


async def test_a_known_client_that_asks_for_nothing_is_sent_home(port: int) -> None:
    connection, _ = await connect(port, TOKEN)
    with pytest.raises(ServerLostError):
        await connection.receive(60.0)
    connection.close()


async def test_a_picture_arrives_after_all_of_that(port: int) -> None:
    await heard_by(port, HTTP)
    request = make_request()
    rendered = await ask(port, protocol.RENDER, {"request": request, "fields": {}})
    assert rendered.content == fake_content(request)  # type: ignore[attr-defined]


# The other way round: somebody else listens where the server was


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(1000))


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(pack({"version": "0.1.0", "protocol": 1, "nonce": "n", "proof": "p"}, 0)[:-3])


async def _liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(pack({"version": "0.1.0", "protocol": 1, "nonce": "n", "proof": "p"}, 0))


@pytest.mark.parametrize("stranger", [_echo, _http, _silent, _hang_up, _half, _liar])
async def test_a_client_trusts_nobody_on_the_port_and_never_says_the_token(
    stranger: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zit_ext.model_server.connection.HANDSHAKE_SECONDS", 0.5)
    heard = bytearray()
    open_writers = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)
        overheard = asyncio.StreamReader()
        heard.extend(first := await reader.read(1000))
        overheard.feed_data(first)
        overheard.feed_eof()
        await stranger(overheard, writer)
        heard.extend(await reader.read())

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises((ProtocolError, ServerLostError)):
        await connect(port, TOKEN)
    server.close()
    for writer in open_writers:
        writer.close()

    assert heard
    assert TOKEN.encode() not in heard
    assert b"proof" not in heard


async def test_a_port_where_nobody_listens_is_no_server() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(ServerLostError, match="there is no model server"):
        await connect(port, TOKEN)


async def test_who_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zit_ext.model_server.connection.SEND_SECONDS", 0.2)
    one, other = _tcp_pair()
    connection = Connection(one)
    with pytest.raises(ServerLostError, match=r"0\.2 seconds without a word"):
        await connection.send({}, bytes(100_000_000))
    connection.close()
    other.close()


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]
