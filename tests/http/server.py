"""A real server on a loopback port, in a thread of its own, and tokens for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import requests

from zit_ext import hookimpl
from zit_ext.http.everything import all_routes
from zit_ext.http.gates import gate_of
from zit_ext.http.service import Service
from zit_ext.http.serving import serve
from zit_ext.records import ModelRef
from zit_ext.runtime import Runtime
from zit_ext.testing import FakePipeline

TOKENS = """
[alice]
token = "alice-alice-alice-alice"
namespace = "alice"
[bob]
token = "bob-bob-bob-bob-bob-bob"
namespace = "bob"
[reader]
token = "reader-reader-reader"
namespace = "alice"
scopes = ["read"]
[owner]
token = "owner-owner-owner-owner"
namespace = "alice"
scopes = ["generate", "read", "admin"]
[chief]
token = "chief-chief-chief-chief"
namespace = "*"
scopes = ["generate", "read", "admin"]
"""
ALICE, BOB, READER, OWNER, CHIEF = (
    {"Authorization": f"Bearer {token}"}
    for token in (
        "alice-alice-alice-alice",
        "bob-bob-bob-bob-bob-bob",
        "reader-reader-reader",
        "owner-owner-owner-owner",
        "chief-chief-chief-chief",
    )
)


class Opens:
    """A plugin whose weights are this pipeline, whatever they are called."""

    def __init__(self, pipeline: FakePipeline) -> None:
        self._pipeline = pipeline

    @hookimpl
    def zit_open_pipeline(self, model: ModelRef) -> FakePipeline:
        self._pipeline.closed = False  # opened again, it renders
        return self._pipeline


class Served:
    """A running server, and a client for it."""

    def __init__(self, runtime: Runtime, **options: Any) -> None:
        self.runtime = runtime
        self.service = Service(runtime, routes=all_routes(), gate=gate_of(runtime.settings))
        self.port = 0
        self.client = requests.Session()
        self._ready = threading.Event()
        self._stop: Callable[[], object] = lambda: None
        self._options = options
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        async def run() -> None:
            stop, loop = asyncio.Event(), asyncio.get_running_loop()
            self._stop = lambda: loop.call_soon_threadsafe(stop.set)

            def ready(port: int) -> None:
                self.port = port
                self._ready.set()

            await serve(self.service, host="127.0.0.1", port=0, ready=ready, stop=stop, **self._options)

        asyncio.run(run())

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(self.url + path, timeout=30, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> Any:
        return self.client.post(self.url + path, json=json, timeout=30, **options)

    def generate(self, prompt: str = "a lighthouse", headers: Any = None, **fields: Any) -> Any:
        values = {"prompt": prompt, "seed": 7, **fields}
        return self.post("/zit/v1/generate", values, headers=headers or {})

    def kept(self, prompt: str = "a lighthouse", headers: Any = None, **fields: Any) -> Any:
        """Have a picture made, and what waits to be stored written; return what is told of it."""
        image = self.generate(prompt, headers, **fields).json()["images"][0]
        self.runtime.store.flush()
        return image

    def ask_to_end(self) -> None:
        self._stop()

    def ended(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def close(self) -> None:
        self.client.close()
        if self._thread.is_alive():
            self._stop()
        self._thread.join(30)
        assert not self._thread.is_alive()
