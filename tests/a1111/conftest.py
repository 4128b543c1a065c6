from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

collect_ignore = ["tiny_checkpoint.py", "tiny_forge_checkpoint.py", "tiny_lora.py", "fake_page.py"]
"""Programs of the webui's own Python."""


class Webui:
    """A fake webui with the extension in it. Each is one process: what it holds in memory is its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, forge: bool = False) -> None:
        from .fake_forge import FakeForge
        from .fake_webui import FakeWebui, Txt2Img, process_images

        for name in [each for each in sys.modules if each.partition(".")[0] == "a1111_extension"]:
            del sys.modules[name]
        self.fake: Any = (FakeForge if forge else FakeWebui)(folder)
        for name, module in self.fake.modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        self.native_cache = importlib.import_module("a1111_extension.native_cache")
        self.keeping = importlib.import_module("a1111_extension.keeping")
        self.settings_page = importlib.import_module("a1111_extension.settings_page")
        # As if the files of this test had been left alone for long.
        provenance = importlib.import_module("a1111_extension.provenance")
        digests = importlib.import_module("zit_ext.models.digests")
        monkeypatch.setattr(self.native_cache, "_provenance", provenance.Provenance(time.time() + 100))
        memo = digests.Digests(folder / "memo", clock=lambda: time.time() + 100)
        monkeypatch.setattr(self.keeping, "_digests", lambda: memo)
        # The job's class knows its webui, so that a job's attributes are those of the real one.
        self._job = type("Txt2Img", (Txt2Img,), {"webui": self.fake, "cached_c": [None, None]})
        self.process = process_images
        self.script = self.add(self.native_cache.NativeCache(), [True], builtin="extensions/zit_ext")
        self.native_cache.register()
        self.fake.load_model()

    def add(self, script: Any, arguments: list[Any], *, builtin: str = "", defaults: list[Any] | None = None):
        """Give every later job this script too."""
        script.filename = str(self.fake.folder / (builtin or "extensions/other/scripts") / "script.py")
        script.controls = [SimpleNamespace(value=each) for each in (defaults or [])]
        script.api_info = SimpleNamespace(args=[SimpleNamespace(value=each) for each in (defaults or [])])
        self.scripts = [*getattr(self, "scripts", []), (script, arguments)]
        return script

    def job(self, **changes: Any) -> Any:
        job = self._job(**changes)
        for script, arguments in self.scripts:
            script.args_from = len(job.script_args)
            job.script_args.extend(arguments)
            script.args_to = len(job.script_args)
            job.scripts.alwayson_scripts.append(script)
        return job

    def run(self, **changes: Any) -> SimpleNamespace:
        """Run a job, wait until everything is kept, and return pictures, infotexts and comments."""
        return self.finish(self.job(**changes))

    def finish(self, job: Any) -> SimpleNamespace:
        before = self.fake.renders
        done = self.process(job)
        done.renders = self.fake.renders - before
        self.keeping_done()
        return done

    def keeping_done(self) -> None:
        self.native_cache._keeper._hasher.submit(lambda: None).result()
        self.engine.store.flush()

    @property
    def engine(self) -> Any:
        return sys.modules["a1111_extension.host"].engine()


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("ZIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ZIT_CONFIG", str(tmp_path / "config.toml"))
    yield
    from zit_ext import shared_runtime

    if shared_runtime._shared is not None:
        shared_runtime._shared.close()
        shared_runtime._shared = None


@pytest.fixture
def start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_folders: None
) -> Iterator[Callable[..., Webui]]:
    """Start a webui; a second call is the webui after a restart."""
    from zit_ext import shared_runtime

    def started(**kind: bool) -> Webui:
        if shared_runtime._shared is not None:
            shared_runtime._shared.close()
        return Webui(tmp_path / "webui", monkeypatch, **kind)

    yield started
    for name in [each for each in sys.modules if each.partition(".")[0] == "a1111_extension"]:
        del sys.modules[name]  # they hold on to the fakes


@pytest.fixture
def webui(start: Callable[..., Webui]) -> Webui:
    return start()
