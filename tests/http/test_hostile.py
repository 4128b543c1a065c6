"""A client that sends rubbish gets an answer or is hung up on; the server lives, and tells nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import socket

import pytest
from aiohttp import web

from zit_ext.http import aiohttp_app
from zit_ext.http.messages import Answer, FilePart

from .server import ALICE

pytestmark = pytest.mark.http

RAW = [
    b"\x00" * 100,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 50,  # TLS
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /zit/v1/health HTTP/1.1\r\n\r\n",
    b"GET /zit/v1/health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /zit/v1/health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET http://evil.example/zit/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /zit/blobs/../../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /zit/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /zit/blobs/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /zit/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /zit/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n{}",
    b"POST /zit/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /zit/v1/generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    b"POST /zit/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n"
    b"Content-Length: 4\r\n\r\nrubb",
    b"POST /zit/v1/generate HTTP/1.1\r\nHost: localhost\r\nExpect: 200-maybe\r\nContent-Length: 2\r\n\r\n{}",
]

BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"\xff\xfe",
    b'{"prompt": NaN}',
    b'{"prompt": "a", "seed": 1e999}',
    b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}",
    b'{"prompt": "a", "seed": {"a": 1}}',
    b'{"prompt": "\\ud800", "seed": 1}',
    b'{"\\ud800": 1, "prompt": "a"}',
    b'{"prompt": ["a"], "seed": 1}',
    b'{"prompt": "a", "seed": 1, "extra": {"a": {"b": []}}, "width": "x"}',
    b'{"prompt": "a", "seed": 1, "model": 5}',
    b'{"prompt": "a", "seed": 1, "model": {"source": 5}}',
    b'{"prompt": "a", "seed": 1, "model": {"path": "/etc/passwd"}}',
    b'{"prompt": "a", "seed": 1, "loras": "ab"}',
    b'{"prompt": "a", "seed": 1, "loras": [[]]}',
    b'{"prompt": "a", "seed": 1, "scheduler": {"name": []}}',
    b'{"prompt": "a", "seed": 1, "sigmas": "1,0"}',
    b'{"prompt": "a", "seed": 1, "namespace": []}',
    b'{"prompt": "a", "seed": 1, "priority": "high"}',
    b'{"prompt": "a", "seed": 1, "keep_alive": []}',
    b'{"prompt": "a", "seed": 1, "cache": {}}',
    b'{"prompt": "a", "seed": 1, "n": 1e9}',
    b'{"prompt": "a", "seed": 1, "response_format": []}',
    b'{"prompt": "a", "seed": 1, "image": {"a": 1}}',
    b'{"prompt": "a", "seed": 1, "media_type": 5}',
    b'{"prompt": "a", "seed": 1, "ttl_seconds": -5}',
    b'{"prompt": "a", "seed": 1, "extra": []}',
    b'{"prompt": "a", "seed": 1, "context": "x"}',
    b'{"prompt": "a", "seed": 1, "init_images": 5, "override_settings": [], "sampler_name": []}',
    b"[" * 100_000,
    b'{"a":' * 50_000,
]


def said(port: int, data: bytes) -> bytes:
    """Send bytes, and return everything that comes back before the server hangs up or says no more."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        heard = b""
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                heard += piece
        return heard


def check_silent(text: str) -> None:
    for word in ("Traceback", "root:", "zit_ext/", ".py"):
        assert word not in text, text[:500]


@pytest.mark.parametrize("data", RAW, ids=lambda data: repr(data[:60]))
def test_rubbish_is_refused_and_the_server_lives(served, pipeline, data):
    heard = said(served.port, data)

    check_silent(heard.decode("latin-1"))
    assert not heard or heard[8:10] in (b" 4", b" 5"), heard[:200]
    assert served.get("/zit/v1/health").status_code == 200
    assert pipeline.rendered == []


@pytest.mark.parametrize("path", ["/zit/v1/generate", "/v1/images/generations", "/sdapi/v1/txt2img"])
def test_a_body_that_makes_no_sense_is_the_clients_mistake(served, pipeline, path, caplog):
    with caplog.at_level(logging.ERROR):
        for body in BODIES:
            told = served.client.post(served.url + path, data=body, timeout=20)
            # Of a webui some of these are the fields, and no prompt is a prompt too.
            fine = path.startswith("/sdapi") and told.status_code == 200
            assert fine or 400 <= told.status_code < 500, (body[:80], told.status_code, told.text[:300])
            assert json.loads(told.text)
            check_silent(told.text)
    assert len(pipeline.rendered) == (2 if path.startswith("/sdapi") else 0)
    assert "Traceback" not in caplog.text


def test_no_version_is_told(served):
    for path in ("/zit/v1/health", "/nothing"):
        assert served.get(path).headers["Server"] == "zit_ext"


def test_half_requests_and_hang_ups_cost_nothing(served):
    whole = (
        b"POST /zit/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 28\r\n\r\n"
        b'{"prompt": "a", "seed": 123}'
    )
    for end in range(0, len(whole), 5):
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
            connection.sendall(whole[:end])
    assert served.generate().status_code == 200


@pytest.mark.parametrize("kind", ["small", "large", "file", "stream"])
def test_whoever_hangs_up_before_the_answer_leaves_no_traceback(tmp_path, caplog, kind):
    path = tmp_path / "blob"
    path.write_bytes(bytes(300_000))

    async def pieces():
        yield b"a"

    async def hung_up(request):
        request.transport.abort()
        bodies = {
            "small": b"a",
            "large": bytes(300_000),
            "file": FilePart(path, 0, 300_000),
            "stream": pieces(),
        }
        return await aiohttp_app._send(request, Answer(body=bodies[kind]))

    async def story():
        server = web.Server(hung_up)
        runner = web.ServerRunner(server)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        await runner.cleanup()

    asyncio.run(story())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_random_bytes_do_no_harm(served):
    dice = random.Random(8)
    begin = b"POST /zit/v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n\r\n"
    for _ in range(100):
        data = bytearray(begin + dice.randbytes(40))
        for _ in range(dice.randrange(4)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        check_silent(said(served.port, bytes(data)).decode("latin-1"))
    assert served.generate().status_code == 200


@pytest.mark.parametrize("path", ["/zit/v1/generate", "/v1/models", "/sdapi/v1/options", "/zit/v1/session"])
def test_wrong_tokens_learn_nothing(guarded, path):
    for token in ("", "x", "alice", "alice-alice-alice-alicE", "a" * 8000, "\x7f", "é"):
        told = guarded.client.request(
            "POST" if "generate" in path else "GET",
            guarded.url + path,
            headers={"Authorization": f"Bearer {token}".encode("latin-1")},
            timeout=10,
        )
        assert told.status_code in (400, 401)
        check_silent(told.text)
    assert guarded.get("/zit/v1/session", headers=ALICE).status_code == 200
