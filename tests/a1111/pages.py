"""Webuis with a page for tests: Gradio in an environment of its own, and the tab as a person uses it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pluggy

from zit_ext.installing.places import venv_python
from zit_ext.model_server.home import ServerHome
from zit_ext.model_server.starting import stop
from zit_ext.settings import Settings

HERE = Path(__file__).parent
GRADIOS = {"gradio3": "A1111", "gradio4": "Forge"}


NOISE = [
    "left the machine: https://(fonts|cdnjs|cdn|gradio)",
    "preload CSS for https://fonts",
    "net::ERR_FAILED",
    "Could not get api details",
    "console: AbortError: signal is aborted without reason",
]
"""What Gradio's own page says when its maker's fonts and scripts are not let in, and as it ends its own
stream of events; none of it is needed."""


def environment(name: str) -> Path:
    """Return the Python of an environment with this Gradio and nothing of ours; made once, and whole.

    It lies in the environment that runs the tests, or where ZIT_TEST_HOSTS says.
    """
    recipe = HERE / "gradios" / f"{name}.txt"
    digest = hashlib.sha256(recipe.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = Path(os.environ.get("ZIT_TEST_HOSTS") or Path(sys.prefix) / "zit_hosts") / f"{name}-{digest}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(new)], check=True, timeout=120)
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
            command += ["--python", str(venv_python(new)), "install", "--no-deps", "-r", str(recipe)]
            subprocess.run(command, check=True, timeout=600)
            os.replace(new, folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return venv_python(folder)


def end_server(data: Path) -> None:
    """End the model server of this data folder. On a thread: while Playwright runs, this one has a loop."""
    home = ServerHome.of(Settings(data_dir=data, device="cpu"))
    ending = threading.Thread(target=lambda: asyncio.run(stop(home, patience=20.0)))
    ending.start()
    ending.join()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class FakePage:
    """A webui with nothing in it but the extension; `fake_page.py` is what runs."""

    def __init__(self, python: Path, folder: Path, model: Path, name: str) -> None:
        self.python = python
        self.folder = folder
        self.name = name
        self.data = folder / "data"
        self.environ = {
            **{each: value for each, value in os.environ.items() if not each.startswith(("PYTHON", "ZIT_"))},
            "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_DATA_HOME": str(folder / "share"),
            "ZIT_CONFIG": str(folder / "config.toml"),
            "ZIT_CACHE_DIR": str(folder / "zit"),
            "ZIT_DATA_DIR": str(self.data),
            "ZIT_MODEL": str(model),
            "ZIT_DEVICE": "cpu",
            "ZIT_SERVER_PYTHON": sys.executable,
            "ZIT_SERVER_IDLE_TIMEOUT": "300",
            "PYTHONUNBUFFERED": "1",
            # The one package that we need, from where install.py would have put it: not among the webui's.
            "PYTHONPATH": str(_only(pluggy, folder / "side")),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "page.log"
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *options: str) -> FakePage:
        self.port = free_port()
        command = [str(self.python), str(HERE / "fake_page.py"), str(self.folder), str(self.port), *options]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, env=self.environ, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 300
        while "ready\n" not in self.text():
            assert self._process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.1)
        return self

    def stop(self, *, kill: bool = False) -> None:
        if self._process is not None:
            (self._process.kill if kill else self._process.terminate)()
            self._process.wait(30)
            self._process = None

    def text(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def saved(self) -> list[bytes]:
        """Return the files that were saved, the oldest first."""
        return [path.read_bytes() for path in sorted((self.folder / "outputs").glob("*.png"))]


def _only(package: Any, folder: Path) -> Path:
    source = Path(package.__file__).parent
    if not folder.exists():
        shutil.copytree(source, folder / source.name)
    return folder


class Tab:
    """The tab "Z-Image" in a browser, of a fake webui or of a real one."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        page.allowed += NOISE
        page.goto(url, wait_until="domcontentloaded")
        self._before: str | None = None
        self.open()

    def open(self) -> None:
        self.page.get_by_role("tab", name="Z-Image", exact=True).or_(
            self.page.locator("#tabs").get_by_role("button", name="Z-Image", exact=True)
        ).first.click(timeout=120_000)
        self.page.locator("#zit_generate").wait_for()

    def fill(self, **values: Any) -> Tab:
        for name, value in values.items():
            box = (
                self.page.locator(f"#zit_{name}")
                .locator("textarea, input[type=number], input[type=text]")
                .first
            )
            box.fill(str(value))
            box.press("Tab")
        return self

    def small(self, prompt: str, **values: Any) -> Tab:
        return self.fill(prompt=prompt, width=128, height=128, **{"seed": 7, **values})

    def value(self, name: str) -> str:
        box = (
            self.page.locator(f"#zit_{name}").locator("textarea, input[type=number], input[type=text]").first
        )
        value: str = box.input_value()
        return value

    def press(self, name: str) -> None:
        self.page.locator(f"#zit_{name}").click()

    def choose(self, name: str, value: str) -> None:
        """Choose one of a list, as soon as it is in it."""
        import playwright.sync_api as errors  # not there for who collects tests only

        option = self.page.locator("[data-testid=dropdown-option]").filter(has_text=value).first
        box = self.page.locator(f"#zit_{name} input").first
        for _ in range(30):
            box.click()
            try:
                option.click(timeout=2000)
            except errors.Error:
                box.press("Tab")  # a list that is open already shows nothing new
            else:
                return
        raise AssertionError(f"{value} is no choice")

    def until(self, true: Callable[[], Any]) -> None:
        """Wait until this is true. The page goes on meanwhile, which it does not while Python sleeps."""
        deadline = time.monotonic() + 300
        while not true():
            assert time.monotonic() < deadline, "it did not come true"
            self.page.wait_for_timeout(50)

    def becomes(self, name: str, value: str) -> None:
        """Wait until a field holds this."""
        self.until(lambda: self.value(name) == value)

    def unfold(self, name: str) -> Any:
        """Open one of the tab's accordions; return it."""
        self.page.locator(f"#zit_{name} > .label-wrap, #zit_{name} button.label-wrap").first.click()
        return self.page.locator(f"#zit_{name}")

    def begin(self, by: str | None = None) -> None:
        """Press Generate, or have a program of the page do it."""
        self._before = self._task()
        if by is None:
            self.press("generate")
        else:
            self.page.evaluate(by)

    def answer(self) -> str:
        """Wait for what is said under the picture."""
        self.until(lambda: self._task() != self._before)
        text: str = self.page.locator(".zit-log").last.inner_text()
        return " ".join(text.split())

    def _task(self) -> str | None:
        """Return the task whose answer is shown."""
        shown = self.page.locator(".zit-log")
        task: str | None = shown.last.get_attribute("data-task") if shown.count() else None
        return task

    def generate(self) -> str:
        self.begin()
        return self.answer()

    def pictures(self) -> list[str]:
        """Return the addresses of the pictures in the gallery."""
        found = self.page.locator("#zit_gallery img")
        found.first.wait_for(state="attached")
        return list(dict.fromkeys(each.get_attribute("src") for each in found.all()))

    def infotext(self) -> str:
        text: str = self.page.locator("#html_info_zit p").first.inner_text()
        return text
