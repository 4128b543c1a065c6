"""What the model server adds to a render, and how long it takes to start.

`python -m benchmarks.server [--quick] [--json FILE]`. The same render, which costs nothing and gives a
picture of one megapixel (3 MB), is done in this process and by a model server, in turn. The limit is the
same bytes through a bare loopback socket from another process.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zit_ext import ModelRef, Request, Settings
from zit_ext.model_server.home import ServerHome
from zit_ext.model_server.starting import stop
from zit_ext.plugins import Hooks, find_plugins
from zit_ext.renderers.local import LocalRenderer
from zit_ext.renderers.model_server import ServerRenderer
from zit_ext.testing import QuietWatcher

from .report import Row, Spread, measure, milliseconds, run

SIDE = 1024
PICTURE = SIDE * SIDE * 3
PLUGINS = Path(__file__).parent / "plugins"
WARM_UP = 5


def benchmark(quick: bool) -> Sequence[Row]:
    """What the model server adds to a render, and how long it takes to start."""
    with tempfile.TemporaryDirectory() as temporary:
        settings = Settings(
            cache_dir=Path(temporary) / "cache",
            data_dir=Path(temporary) / "data",
            plugin_dir=PLUGINS,
            device="cpu",
        )
        try:
            return asyncio.run(_rows(settings, quick))
        finally:
            asyncio.run(stop(ServerHome.of(settings)))


async def _rows(settings: Settings, quick: bool) -> list[Row]:
    starts, nothing = await _starts(settings, 2 if quick else 10)
    local, server, bare = await _renders(settings, 20 if quick else 300)
    added = Spread(tuple(there - here for here, there in zip(local.seconds, server.seconds, strict=True)))
    what = f"{SIDE}x{SIDE}, 3 MB, 8 steps"
    return [
        milliseconds("a bare socket, 3 MB from another process", bare),
        milliseconds(f"render in this process, {what}", local),
        milliseconds(f"render by the model server, {what}", server, "a bare socket", bare),
        milliseconds(f"added by the model server, {what}", added, "a bare socket", bare),
        milliseconds("start of python, doing nothing", nothing),
        milliseconds("start of a model server, until it answers", starts, "start of python", nothing),
    ]


async def _renders(settings: Settings, n: int) -> tuple[Spread, Spread, Spread]:
    """Return the seconds of renders here, of renders by the server, and of a bare socket; taken in turn."""
    hooks = Hooks(find_plugins(folder=PLUGINS, entry_points=False))
    here = LocalRenderer(settings, open_pipeline=hooks.open_pipeline, make_room=hooks.make_room)  # type: ignore[arg-type]
    there = ServerRenderer(settings)
    seconds: list[list[float]] = [[], [], []]
    with _bare_socket() as fetch:
        for number in range(n + WARM_UP):
            request = Request(prompt="", seed=number, model=ModelRef(source=f"flat:{SIDE}"))
            for renderer, taken in ((here, seconds[0]), (there, seconds[1])):
                started = time.perf_counter()
                rendered = await renderer.render(request, QuietWatcher())
                taken.append(time.perf_counter() - started)
                assert len(rendered.content.data) == PICTURE
            started = time.perf_counter()
            fetch()
            seconds[2].append(time.perf_counter() - started)
    await here.close()
    await there.close()
    local, server, bare = (Spread(tuple(each[WARM_UP:])) for each in seconds)
    return local, server, bare


async def _starts(settings: Settings, n: int) -> tuple[Spread, Spread]:
    """Return the seconds until a new server answers, and those of a Python that does nothing."""
    home, renderer = ServerHome.of(settings), ServerRenderer(settings)
    taken = []
    for _ in range(n + 1):
        await stop(home)
        started = time.perf_counter()
        await renderer.preload(ModelRef(source="flat:16"))
        taken.append(time.perf_counter() - started)
    nothing = measure(lambda _: subprocess.run([sys.executable, "-c", "pass"], check=True), n, warm_up=1)
    await renderer.close()
    return Spread(tuple(taken[1:])), nothing


@contextmanager
def _bare_socket() -> Iterator[Callable[[], None]]:
    """Give a function that asks another process for a picture's bytes, and waits for them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        child = subprocess.Popen([sys.executable, "-m", "benchmarks.server", "child", port])
        sock, _ = listener.accept()
    room = memoryview(bytearray(PICTURE))

    def fetch() -> None:
        sock.sendall(b"?")
        at = 0
        while at < PICTURE:
            at += sock.recv_into(room[at:])

    with sock:
        yield fetch
    child.wait(30)


def _child(port: int) -> None:
    picture = bytes(PICTURE)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        while sock.recv(1):
            sock.sendall(picture)


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        _child(int(sys.argv[2]))
        sys.exit(0)
    sys.exit(run(benchmark))
