"""A running ComfyUI, as a test sees it: graphs go in, events and pictures come out."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zit_ext.codecs import decode_png

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
Graph = Mapping[str, Any]
OnEvent = Callable[[str, dict[str, Any]], None]


class RefusedError(Exception):
    """The host did not accept a graph; `answer` is what it said."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(json.dumps(answer))
        self.answer = answer


@dataclass
class Ran:
    """What a graph did."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    previews: int = 0
    seconds: float = 0.0

    def texts(self, node: str) -> list[str]:
        """Return what a node showed as text."""
        found = [data for kind, data in self.events if kind == "executed" and data["node"] == node]
        return list((found[-1]["output"] or {}).get("text", [])) if found else []

    @property
    def executed(self) -> list[str]:
        """The nodes that ran, in order."""
        return [data["node"] for kind, data in self.events if kind == "executing" and data["node"]]

    @property
    def ending(self) -> str:
        return self.events[-1][0]

    @property
    def error(self) -> str:
        return str(self.events[-1][1].get("exception_message", ""))

    def images(self, node: str) -> list[dict[str, str]]:
        found = [data for kind, data in self.events if kind == "executed" and data["node"] == node]
        return list(found[-1]["output"]["images"]) if found else []


class Host:
    """One ComfyUI in a folder of its own, with our pack and the tests' in it, headless on the CPU."""

    def __init__(self, checkout: Path, python: Sequence[str], paths: Sequence[Path], base: Path) -> None:
        self.checkout = checkout
        self.base = base
        self.log = base / "nodes.log"
        self.output = base / "host.log"
        self.environ: dict[str, str] = {}
        self.arguments: list[str] = []
        self.has_page = False
        """Whether it serves its own page, from the package that Python finds; else an empty one."""
        self._python = python
        self._paths = paths
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        for name in ("custom_nodes", "input", "output", "models/vae", "models/loras", "front"):
            (base / name).mkdir(parents=True, exist_ok=True)
        (base / "front" / "index.html").write_text("<html></html>", encoding="utf-8")
        (base / "custom_nodes" / "zit_ext").symlink_to(ROOT, target_is_directory=True)
        shutil.copytree(HERE / "pack", base / "custom_nodes" / "zit_test_pack")
        strangers = (HERE / "pack" / "__init__.py").read_text(encoding="utf-8").replace('"Test', '"Strange')
        (base / "custom_nodes" / "zit_strangers.py").write_text(strangers, encoding="utf-8")
        (base / "models" / "vae" / "grey.safetensors").write_bytes(b"\x40" * 64)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self, patience: float = 180.0) -> None:
        self._port = _free_port()
        command = [
            *self._python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self._port),
            "--base-directory", str(self.base), "--disable-api-nodes", "--disable-auto-launch",
            "--database-url", "sqlite:///:memory:",
            *([] if self.has_page else ["--front-end-root", str(self.base / "front")]),
            *self.arguments,
        ]  # fmt: skip
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, self._paths)),
            "ZIT_CONFIG": str(self.base / "config.toml"),
            "ZIT_CACHE_DIR": str(self.base / "cache"),
            "ZIT_DATA_DIR": str(self.base / "data"),
            "ZIT_RENDERER": "local",
            "ZIT_TRUSTED_PACKS": "zit_test_pack",
            "ZIT_MEMORY_BYTES": "0",  # each hit is read from the disk
            "ZIT_TEST_LOG": str(self.log),
            "HF_HUB_OFFLINE": "1",
            **self.environ,
        }
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=self.checkout, env=environ, stdout=output, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise AssertionError("ComfyUI did not start:\n" + self.output.read_text(errors="replace")[-6000:])

    def stop(self) -> None:
        """End it as a user does, with Ctrl-C."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def text(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return str(answer.read().decode())

    def post(self, path: str, body: Any) -> None:
        status, answer = self.ask(path, body)
        assert status == 200, answer

    def ask(
        self, path: str, body: Any = None, headers: Mapping[str, str] = MappingProxyType({}), method: str = ""
    ) -> tuple[int, bytes]:
        """Return status and body of whatever the server answers; a body that is given is sent as JSON."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json", **headers}, method=method or None
        )
        try:
            with urllib.request.urlopen(request, timeout=100) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def forget(self) -> None:
        """Have the host empty its own cache, as "Free memory" in its menu does."""
        self.post("/free", {"free_memory": True})
        time.sleep(0.5)  # it has no answer: the worker does it when it wakes

    def blobs(self) -> set[Path]:
        """Return the files of the result store."""
        return {path for path in (self.base / "cache").rglob("blobs/??/*") if path.is_file()}

    def entries(self) -> int:
        """Return how many results the index has: what is still being written does not count."""
        newest = max((self.base / "cache").rglob("index-*.sqlite3"), key=lambda path: path.name, default=None)
        if newest is None:
            return 0
        with contextlib.closing(sqlite3.connect(f"file:{newest}?mode=ro", uri=True)) as index:
            return int(index.execute("SELECT entries FROM totals").fetchone()[0])

    def settle(self) -> None:
        """Return once every result that was promised is written. Fails after half a minute."""
        end = time.monotonic() + 30
        while self.get("/zit/v1/stats")["store"]["waiting"]:
            assert time.monotonic() < end, "the results were not written"
            time.sleep(0.05)

    def wait_for_entries(self, count: int) -> None:
        """Return once the index has more results than so many. Fails after half a minute."""
        end = time.monotonic() + 30
        while self.entries() <= count:
            assert time.monotonic() < end, "the result was not written"
            time.sleep(0.05)

    def notes(self) -> list[str]:
        """Return what the tests' own nodes did since this was asked last."""
        if not self.log.exists():
            return []
        lines = self.log.read_text(encoding="utf-8").splitlines()
        self.log.unlink()
        return lines

    def pixels(self, image: Mapping[str, str]) -> str:
        """Return the digest of the pixels of a saved PNG."""
        path = self.base / image["type"] / image["subfolder"] / image["filename"]
        return hashlib.sha256(decode_png(path.read_bytes()).data).hexdigest()

    def run(self, graph: Graph, on_event: OnEvent | None = None, seconds: float = 200) -> Ran:
        """Run one graph to its end. Raises RefusedError if the host does not take it."""
        return asyncio.run(asyncio.wait_for(self._run(graph, on_event), seconds))

    def run_all(self, graphs: Sequence[Graph], seconds: float = 200) -> list[Ran]:
        """Queue several graphs at once, and wait for all."""

        async def together() -> list[Ran]:
            return list(await asyncio.gather(*(self._run(graph, None) for graph in graphs)))

        return asyncio.run(asyncio.wait_for(together(), seconds))

    async def _run(self, graph: Graph, on_event: OnEvent | None) -> Ran:
        import aiohttp

        ran = Ran()
        client = uuid.uuid4().hex
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.url}/ws?clientId={client}", max_msg_size=0) as events,
        ):
            started = time.perf_counter()
            body = {"prompt": graph, "client_id": client}
            async with session.post(f"{self.url}/prompt", json=body) as response:
                answer = await response.json()
                if response.status != 200 or answer.get("node_errors"):
                    raise RefusedError(answer)
            async for message in events:
                if message.type is aiohttp.WSMsgType.BINARY:
                    ran.previews += 1
                    continue
                told = json.loads(message.data)
                kind, data = told["type"], told["data"]
                if data.get("prompt_id") != answer["prompt_id"]:
                    continue
                ran.events.append((kind, data))
                if on_event is not None:
                    await asyncio.to_thread(on_event, kind, data)
                if kind in ("execution_success", "execution_error", "execution_interrupted"):
                    break
            ran.seconds = time.perf_counter() - started
        return ran


def python_for(checkout: Path, get: Callable[[], Path]) -> tuple[list[str], list[Path]]:
    """Return the Python for a given checkout and its PYTHONPATH.

    ZIT_COMFYUI_PYTHON names an interpreter that has all it needs; else the one that runs the tests is
    used, with the packages that were fetched for the host of the wheel.
    """
    if own := os.environ.get("ZIT_COMFYUI_PYTHON"):
        extra = os.environ.get("ZIT_COMFYUI_PYTHONPATH")
        return [own], [Path(each) for each in extra.split(os.pathsep)] if extra else []
    return [sys.executable], [get() / "site", HERE / "stand_ins"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
