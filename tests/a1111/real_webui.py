"""Starts a real webui on the CPU, with this repository as its extension, and speaks to its API."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zit_ext.installing.hosts import Host, python_of

from .pages import end_server

ROOT = Path(__file__).parents[2]
TITLE = "Z-Image cache: keep results of txt2img"
_OPTIONS = (
    "--skip-torch-cuda-test --skip-prepare-environment --skip-load-model-at-start --no-half"
    " --no-download-sd-model --do-not-download-clip --api --loglevel INFO"
)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_ASKS_ONCE = urllib.request.build_opener(_NoRedirect)


def basic(name_and_password: str) -> dict[str, str]:
    """Return the headers by which a program says who it is."""
    return {"authorization": "Basic " + base64.b64encode(name_and_password.encode()).decode()}


class RealWebui:
    """One webui with a data folder of its own: nothing is written into the checkout."""

    def __init__(self, checkout: Path, python: Path, folder: Path) -> None:
        self.checkout = checkout
        self.python = python
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "webui.log"
        self.is_forge = (checkout / "modules_forge").is_dir()
        kind = "tiny_forge_checkpoint.py" if self.is_forge else "tiny_checkpoint.py"
        self._checkpoint = Path(__file__).with_name(kind)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_DATA_HOME": str(folder / "share"),
            "ZIT_CONFIG": str(folder / "config.toml"),
            "PYTHONUNBUFFERED": "1",  # its log is read while it runs
            "OMP_NUM_THREADS": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._told = 0
        self._login: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set_up(self) -> None:
        """Make weights, and let install.py do what it does at each launch."""
        extensions = self.data / "extensions"
        extensions.mkdir(parents=True)
        ours = extensions / "zit_ext"
        ours.symlink_to(ROOT, target_is_directory=True)
        self.make_checkpoint()
        self._call([ours / "install.py"])  # as the webui names it: that is how it knows who calls

    def make_checkpoint(self, seed: int = 0) -> None:
        """Write random weights, and LoRAs for them, over those that are there."""
        self._call([self._checkpoint, self.checkout, self.data, str(seed)])

    def _call(self, command: Sequence[Path | str]) -> None:
        done = subprocess.run(
            [str(self.python), *map(str, command)],
            cwd=self.checkout,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, *options: str) -> float:
        """Start it, wait until it answers, and return how many seconds that took."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        on_the_cpu = ["--always-cpu"] if self.is_forge else ["--use-cpu", "all"]
        if self.is_forge:  # with a --data-dir its page may not read its own scripts otherwise
            on_the_cpu += ["--gradio-allowed-path", str(self.checkout)]
        command = [str(self.python), "launch.py", *_OPTIONS.split(), *on_the_cpu, "--port", str(self.port)]
        command += ["--data-dir", str(self.data), *options]
        started = time.perf_counter()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self.checkout, env=self.environ, stdout=log, stderr=subprocess.STDOUT
            )
        self._told = 0
        # The API of a webui with --api-auth answers nobody else.
        self._login = basic(options[options.index("--api-auth") + 1]) if "--api-auth" in options else {}
        while time.perf_counter() - started < 500:
            assert self._process.poll() is None, self.text()[-3000:]
            # Not asked before it says so: a webui that is asked too early fails to make its API.
            if "Startup time:" in self.text():
                self.get("/sdapi/v1/options")
                return time.perf_counter() - started
            time.sleep(0.2)
        raise TimeoutError(self.text()[-3000:])

    def reload_ui(self) -> None:
        """Press "Reload UI" and wait until the new one answers: scripts are loaded again, weights stay."""
        starts = self.text().count("Startup time:")
        presses = self.get("/config")["dependencies"]
        (index,) = [number for number, each in enumerate(presses) if each.get("js") == "restart_reload"]
        pressed = {"data": [], "session_hash": "zit"}
        if self.is_forge:  # gradio 4 has its own queue before it
            self.post("/queue/join", fn_index=presses[index]["id"], **pressed)
        else:
            self.post("/run/predict", fn_index=index, **pressed)
        for _ in range(600):
            if self.text().count("Startup time:") > starts:
                return
            time.sleep(0.2)
        raise TimeoutError(self.text()[-3000:])

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait(60)
            self._process = None

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def outcomes(self) -> list[str]:
        """Return what the cache said since it was asked last: hit, miss, or why it was bypassed."""
        time.sleep(0.1)
        new = self.text()[self._told :]
        self._told += len(new)
        lines = [line.partition("[zit_ext] zit_ext; ")[2] for line in new.splitlines()]
        return [_outcome(line) for line in lines if line]

    def get(self, path: str) -> Any:
        request = urllib.request.Request(self.url + path, headers=self._login)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def status(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> int:
        """Return what somebody is answered who sends these headers, and nothing else of a login."""
        sent = {"content-type": "application/json", **(headers or {})}
        body = b"{}" if method == "POST" else None
        request = urllib.request.Request(self.url + path, body, sent, method=method)
        try:
            with _ASKS_ONCE.open(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def post(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode(),
            {"content-type": "application/json", **self._login},
        )
        with urllib.request.urlopen(request, timeout=280) as answer:
            return json.load(answer)

    def txt2img(self, *, cached: bool = True, **changes: Any) -> list[bytes]:
        """Return the pictures of a job, as the bytes of their files, infotext included."""
        job = {
            "prompt": "a cat",
            "seed": 5,
            "steps": 2,
            "width": 64,
            "height": 64,
            "sampler_name": "Euler a",
            **changes,
        }
        if cached:
            job["alwayson_scripts"] = {TITLE: {"args": [True]}}
        answer = self.post("/sdapi/v1/txt2img", **job)
        return [base64.b64decode(each) for each in answer["images"]]

    def saved(self) -> list[Path]:
        """Return the files that the webui saved, the oldest first."""
        return sorted((self.data / "outputs").rglob("*.png"), key=lambda each: each.stat().st_mtime_ns)


def _outcome(line: str) -> str:
    if line.startswith("fwd=bypass"):
        return "bypass: " + line.partition('detail="')[2].rstrip('"')
    return "hit" if line.startswith("hit") else line.partition(";")[0].removeprefix("fwd=")


@contextmanager
def with_renderer(folder: Path, name: str = "A1111") -> Iterator[RealWebui]:
    """Set the webui of `ZIT_A1111_PATH`, or of another name, up; not started. Who calls skips where none is.

    It has a tiny model of Z-Image, and this Python renders it.
    """
    from zit_ext.models.tiny import build

    root = Path(os.environ[f"ZIT_{name}_PATH"])
    named = os.environ.get(f"ZIT_{name}_PYTHON")
    python = Path(named) if named else python_of(Host("a1111", root))
    assert python is not None, f"no Python in the checkout: set ZIT_{name}_PYTHON"
    webui = RealWebui(root, python, folder)
    webui.environ |= {
        "ZIT_CACHE_DIR": str(folder / "zit"),
        "ZIT_DATA_DIR": str(folder / "zit-data"),
        "ZIT_MODEL": str(build(folder / "tiny-z-image")),
        "ZIT_DEVICE": "cpu",
        "ZIT_SERVER_PYTHON": sys.executable,
        "ZIT_SERVER_IDLE_TIMEOUT": "300",
    }
    try:
        webui.set_up()
        yield webui
    finally:
        webui.stop()
        end_server(folder / "zit-data")
