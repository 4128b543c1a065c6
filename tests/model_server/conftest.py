from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zit_ext.model_server.home import ServerHome
from zit_ext.model_server.starting import stop
from zit_ext.records import ModelRef, Request
from zit_ext.renderers.model_server import ServerRenderer
from zit_ext.settings import Settings
from zit_ext.testing import make_request

PLUGINS = Path(__file__).parent / "plugins"


class World:
    """A folder in which a server lives, and the files through which its weights speak."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.home = ServerHome.of(settings)

    def request(self, prompt: str = "a lighthouse", weights: str = "weights-a", **changes: object) -> Request:
        source = str(self.folder / weights)
        return make_request(prompt=prompt, model=ModelRef(source=source, digest="d" * 64), **changes)

    def lines(self, name: str) -> list[str]:
        try:
            return (self.folder / name).read_text().splitlines()
        except FileNotFoundError:
            return []

    def hold(self) -> None:
        (self.folder / "hold").touch()

    def let_go(self) -> None:
        (self.folder / "hold").unlink(missing_ok=True)

    def renderer(self, settings: Settings | None = None) -> ServerRenderer:
        return ServerRenderer(settings or self.settings)

    def pid(self) -> int:
        state = self.home.state()
        assert state is not None
        return state.pid

    def is_alive(self) -> bool:
        return self.home.is_locked("lock")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Where servers may be started; whatever was is ended at the end."""
    settings = Settings(
        cache_dir=tmp_path / "cache",
        data_dir=tmp_path / "data",
        plugin_dir=PLUGINS,
        renderer="server",
        device="cpu",
        server_idle_timeout=120.0,
        max_bytes=10_000_000,
        memory_bytes=0,
    )
    made = World(tmp_path, settings)
    yield made
    made.let_go()
    asyncio.run(stop(made.home, patience=10.0))


async def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to come true. Fails after a minute."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.02)


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
