from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from zit_ext.model_server.home import ServerHome
from zit_ext.model_server.starting import settings_argument, stop
from zit_ext.records import ModelRef, Request
from zit_ext.renderers.model_server import ServerRenderer
from zit_ext.settings import Settings
from zit_ext.testing import make_request

HERE = Path(__file__).parent


class Client:
    """A program of its own that asks for one picture; `client.py` is what it does."""

    def __init__(self, settings: Settings, source: str, prompt: str, environ: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "client.py"), settings_argument(settings), source, prompt],
            env={**os.environ, "PYTHONPATH": str(HERE.parents[1]), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def answer(self) -> dict[str, Any]:
        """Wait for what became of it."""
        out, err = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, err.decode()
        told: dict[str, Any] = json.loads(out)
        return told

    def kill(self) -> None:
        """End it, and everything that belongs to it, as a terminal does that is closed, only harder."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


class World:
    """A folder in which a server lives, and the files through which its weights speak."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.home = ServerHome.of(settings)

    def request(self, prompt: str = "a lighthouse", weights: str = "weights-a", **changes: object) -> Request:
        model = ModelRef(source=f"paint:{self.folder / weights}", digest="d" * 64)
        return make_request(prompt=prompt, model=model, **changes)

    def with_settings(self, **changes: object) -> Settings:
        return self.settings.with_values(changes, "the test")

    def client(
        self, prompt: str, *, source: str = "", environ: Mapping[str, str] | None = None, **changes: object
    ) -> Client:
        """Start another program that asks for one picture."""
        source = source or self.request(prompt).model.source
        return Client(self.with_settings(**changes), source, prompt, environ or {})

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
        plugin_dir=HERE / "plugins",
        renderer="server",
        device="cpu",
        server_idle_timeout=120.0,
        max_bytes=10_000_000,
        memory_bytes=0,
    )
    made = World(tmp_path, settings)
    yield made
    made.let_go()
    (tmp_path / "slow").unlink(missing_ok=True)
    asyncio.run(stop(made.home, patience=10.0))


async def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to come true. Fails after a minute."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.02)
