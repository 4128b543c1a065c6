"""Hits over HTTP against aiohttp alone: the file as FileResponse, the bytes from memory, a bare 304.

`python -m benchmarks.http [--quick] [--json FILE]`: one server process, and one that asks, over loopback:
wrk where it is installed, else a client of ours, which takes more of the machine for itself.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from zit_ext import ModelRef, Request, Settings
from zit_ext.pipeline import Rendered, Watcher
from zit_ext.plugins import find_plugins
from zit_ext.runtime import Runtime

from .hits import ENVIRONMENT, PictureRenderer, picture
from .report import Row, run

CONNECTIONS = (1, 8, 64)
WRK = shutil.which("wrk")


def benchmark(quick: bool) -> Sequence[Row]:
    """Hits of 1.5 MB and 304s over HTTP, against aiohttp alone in the same process."""
    seconds, rounds = (0.3, 1) if quick else (2.0, 3)  # of each round
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "benchmarks.http", "serve", temporary]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            bare, port, digest = server.stdout.readline().split()
            ours, alone = int(port), int(bare)
            blob = f"/zit/blobs/{digest}"
            known = {"If-None-Match": f'"{digest}"'}
            try:
                hits = {
                    "FileResponse": (alone, "/file"),
                    "body from memory": (alone, "/memory"),
                    "hot hit": (ours, blob),
                }
                again = {"bare 304": (alone, "/bare304"), "304 of a blob": (ours, blob)}
                return [
                    *_compared(hits, {}, "hot hit", seconds, rounds, server.pid),
                    *_compared(again, known, "304 of a blob", seconds, rounds, server.pid),
                    *_mixed(ours, 1.0 if quick else 10.0),
                    *_memory(ours, blob, known, server.pid, 2_000 if quick else 100_000),
                ]
            finally:
                server.communicate("\n")


def _compared(
    paths: dict[str, tuple[int, str]],
    headers: dict[str, str],
    ours: str,
    seconds: float,
    rounds: int,
    pid: int,
) -> list[Row]:
    """Return requests a second for each number of connections, and what one costs the server's processor.

    The paths take turns. The second figure bears a machine that has other work, too.
    """
    rows = []
    for connections in CONNECTIONS:
        rounds_of: dict[str, list[Load]] = {name: [] for name in paths}
        worked = dict.fromkeys(paths, 0.0)
        for _ in range(rounds):
            for name, (port, path) in paths.items():
                before = _worked(pid)
                rounds_of[name].append(load(port, path, headers, connections, seconds))
                worked[name] += _worked(pid) - before
        rates = {name: median(each.rate for each in all) for name, all in rounds_of.items()}
        counts = {name: sum(each.count for each in all) for name, all in rounds_of.items()}
        for name, all in rounds_of.items():
            peer = None if name == ours else ours
            rows.append(
                Row(
                    name=f"{name}, {connections} connections",
                    value=rates[name],
                    p99=median(each.p99_seconds for each in all) * 1000,
                    unit="/s (p99 in ms)",
                    n=counts[name],
                    peer=peer,
                    ratio=peer and rates[name] / rates[peer],
                )
            )
        costs = {name: worked[name] / counts[name] * 1e6 for name in paths}
        rows += [
            Row(
                name=f"{name}, {connections} connections, processor",
                value=costs[name],
                unit="us each",
                n=counts[name],
                peer=None if name == ours else ours,
                ratio=None if name == ours or not costs[ours] else costs[name] / costs[ours],
            )
            for name in paths
        ]
    return rows


@dataclass(frozen=True, slots=True)
class Load:
    """What one round of asking came to."""

    count: int
    rate: float
    """Answers a second."""
    p99_seconds: float


def load(port: int, path: str, headers: dict[str, str], connections: int, seconds: float) -> Load:
    """Ask for one thing on so many connections for so many seconds."""
    if WRK is None or seconds < 1:
        started = time.perf_counter()
        taken = sorted(asyncio.run(ask(port, path, headers, connections, seconds)))
        return Load(len(taken), len(taken) / (time.perf_counter() - started), taken[int(len(taken) * 0.99)])
    given = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = [WRK, "-t1", f"-c{connections}", f"-d{round(seconds)}s", "--latency", *given]
    url = f"http://127.0.0.1:{port}{path}"
    told = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise RuntimeError(told)
    count, rate = re.search(r"(\d+) requests in", told), re.search(r"Requests/sec:\s+([\d.]+)", told)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", told)
    if count is None or rate is None or p99 is None:
        raise RuntimeError(told)
    return Load(int(count[1]), float(rate[1]), float(p99[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[p99[2]])


def _worked(pid: int) -> float:
    """Return the seconds that a process has had of the processor; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _mixed(port: int, seconds: float) -> list[Row]:
    """64 clients, every fourth of which asks for something new each time: who waits, and who starves."""
    kinds = {
        "hits": ("/zit/v1/generate?prompt=a&seed=1", 48),
        "misses": ("/zit/v1/generate?prompt=a&seed=NUMBER", 16),
    }

    async def each_client(*names: str) -> dict[str, list[list[float]]]:
        clients = [
            (name, ask(port, kinds[name][0], {}, 1, seconds)) for name in names for _ in range(kinds[name][1])
        ]
        taken = await asyncio.gather(*(asking for _, asking in clients))
        return {
            name: [each for (of, _), each in zip(clients, taken, strict=True) if of == name] for name in names
        }

    alone = {name: asyncio.run(each_client(name))[name] for name in kinds}
    together = asyncio.run(each_client(*kinds))
    rows = []
    for name, clients in together.items():
        ordered = sorted(second for client in clients for second in client)
        before = median(second for client in alone[name] for second in client)
        middle = median(ordered)
        rows.append(
            Row(
                name=f"{name} among 48 clients of hits and 16 of misses",
                value=middle * 1000,
                p99=ordered[int(len(ordered) * 0.99)] * 1000,
                unit="ms",
                n=len(ordered),
                peer="the same clients alone",
                ratio=middle / before,
            )
        )
        least, mean = min(map(len, clients)), len(ordered) / len(clients)
        rows.append(
            Row(
                name=f"{name}, answers of the client that got fewest",
                value=least,
                unit="answers",
                n=len(clients),
                peer="the mean of all",
                ratio=least / mean,
            )
        )
    return rows


def _memory(port: int, blob: str, known: dict[str, str], pid: int, count: int) -> list[Row]:
    """How much the server grows over many requests of all kinds, after as many as fill its caches."""

    def round_of(requests: int) -> None:
        asyncio.run(ask(port, "/zit/v1/generate?prompt=a&seed=1", {}, 8, 600.0, most=requests // 10))
        asyncio.run(ask(port, blob, {}, 8, 600.0, most=requests // 5))
        asyncio.run(ask(port, blob, known, 8, 600.0, most=requests - requests // 10 - requests // 5))

    round_of(count // 10)
    before = _resident(pid)
    round_of(count)
    after = _resident(pid)
    if before is None or after is None:
        return []
    return [
        Row(
            name=f"memory after {count:,} requests",
            value=after / 1e6,
            unit="MB",
            n=count,
            peer="before",
            ratio=after / before,
        )
    ]


def _resident(pid: int) -> int | None:
    """Return the bytes in RAM of a process, where the system says so."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return None
    return pages * 4096


class Client(asyncio.BufferedProtocol):
    """Asks for one thing again and again on one connection, and notes how long each answer took."""

    buffer = memoryview(bytearray(1 << 18))

    def __init__(self, path: str, head: str, taken: list[float], going: list[bool], most: int) -> None:
        self._path = path
        self._head = head
        self._taken = taken
        self._going = going
        self._most = most
        self._left = 0
        self._reading = False
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._reading:
            # The head comes in one piece: it is small, and written at once.
            data = bytes(self.buffer[: min(nbytes, 4096)])
            head, _, _ = data.partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            if lines[0].split()[1] not in (b"200", b"304"):
                raise RuntimeError(head.decode("latin-1"))
            length = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
            body = 0 if b" 304 " in lines[0] else length[0]
            self._left = len(head) + 4 + body
            self._reading = True
        self._left -= nbytes
        if self._left == 0:
            self._taken.append(time.perf_counter() - self._asked)
            if self._going and len(self._taken) < self._most:
                self._ask()
            else:
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _ask(self) -> None:
        self._reading = False
        self._asked = time.perf_counter()
        path = self._path.replace("NUMBER", str(1000 + next(_numbers)))
        self._transport.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{self._head}\r\n".encode())  # type: ignore[attr-defined]


_numbers = iter(range(10**9))


async def ask(
    port: int,
    path: str,
    headers: dict[str, str],
    connections: int,
    seconds: float,
    most: int = 10**9,
) -> list[float]:
    """Return the seconds that each answer took."""
    taken: list[float] = []
    going = [True]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(path, head, taken, going, most), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.wait([client.ended for client in clients], timeout=seconds)
    going.clear()
    await asyncio.gather(*(client.ended for client in clients))
    return taken


class Renders(PictureRenderer):
    """Draws beside the engine's loop, as a device would."""

    async def render(self, request: Request, watcher: Watcher) -> Rendered:
        await asyncio.sleep(0.05)
        return Rendered(await asyncio.to_thread(picture, request.seed), 3.0, ENVIRONMENT)


async def serve(folder: Path) -> None:
    """Serve one stored picture in every way, until stdin ends."""
    from aiohttp import web

    from zit_ext.http.everything import all_routes
    from zit_ext.http.service import Service
    from zit_ext.http.serving import serve as serve_http

    weights = folder / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"benchmark")
    settings = Settings(cache_dir=folder / "cache", model=str(weights), max_entries=0, http_timeout=60.0)
    runtime = Runtime(settings, plugins=find_plugins(entry_points=False), renderer=Renders())
    asked = Request(prompt="a", seed=1, model=ModelRef(source=str(weights)))
    runtime.generate_blocking(asked)
    runtime.store.flush()
    await asyncio.sleep(0.5)  # the weights are hashed behind the first picture
    runtime.generate_blocking(asked)
    runtime.store.flush()
    (entry,) = runtime.store.entries()
    path = runtime.store.blob_file(entry.blob.digest)
    data = path.read_bytes()

    async def file(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path)

    async def memory(request: web.Request) -> web.StreamResponse:
        return web.Response(body=data, content_type="image/png")

    async def bare304(request: web.Request) -> web.StreamResponse:
        return web.Response(status=304, headers={"ETag": f'"{entry.blob.digest}"'})

    app = web.Application()
    app.router.add_get("/file", file)
    app.router.add_get("/memory", memory)
    app.router.add_get("/bare304", bare304)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stop = asyncio.Event()

    def ready(port: int) -> None:
        print(runner.addresses[0][1], port, entry.blob.digest, flush=True)

    serving = asyncio.ensure_future(
        serve_http(Service(runtime, routes=all_routes()), host="127.0.0.1", port=0, ready=ready, stop=stop)
    )
    await asyncio.to_thread(sys.stdin.readline)
    stop.set()
    await serving
    await runner.cleanup()
    runtime.close(0.0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(Path(sys.argv[2])))
    else:
        sys.exit(run(benchmark))
