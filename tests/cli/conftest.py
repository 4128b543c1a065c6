"""The command line in this process, with a real store and real files; only the weights are fake."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from zit_ext.cli import main
from zit_ext.codecs import Pixels
from zit_ext.fingerprint import canonical_bytes
from zit_ext.pipeline import Lease, Rendered, Watcher
from zit_ext.plugins import find_plugins
from zit_ext.records import Request
from zit_ext.runtime import Runtime
from zit_ext.settings import Settings
from zit_ext.testing import FakePipeline, FakeRenderer


@dataclass(frozen=True)
class Ran:
    """What one call came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place to work in, and settings that nobody has changed."""
    for name in os.environ:
        if name.startswith("ZIT_") or name == "DISABLE_CACHE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("ZIT_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("ZIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ZIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def model(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the real resolver takes for weights; the settings name it."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setenv("ZIT_MODEL", str(folder))
    return folder


class Weights(FakePipeline):
    """The same fake weights for every call; a test may make renders of them fail."""

    def __init__(self) -> None:
        super().__init__(sizes={})
        self.fails: Callable[[Request], BaseException | None] = lambda request: None

    def render(self, request: Request, lease: Lease, watcher: Watcher) -> Rendered:
        if (error := self.fails(request)) is not None:
            raise error
        rendered = super().render(request, lease, watcher)
        # The picture depends on what is asked for, and not on the caller or the place of a file.
        seed = canonical_bytes(request) + str(self.salt).encode()
        return replace(rendered, content=Pixels(4, 4, 3, hashlib.shake_256(seed).digest(48)))

    def close(self) -> None:
        """Nothing ends with one call: the next one gets the same weights."""


@pytest.fixture
def weights() -> Weights:
    return Weights()


@pytest.fixture
def rendered(weights: Weights) -> list[Request]:
    """Every request that was rendered, over all calls."""
    return weights.rendered


@pytest.fixture
def cli(home: Path, weights: Weights, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run `zit-ext` with these arguments."""

    def open_runtime(settings: Settings) -> Runtime:
        plugins = find_plugins(entry_points=False, folder=settings.plugin_dir)
        return Runtime(settings, plugins=plugins, renderer=FakeRenderer(weights))

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = main(list(arguments), open_runtime=open_runtime)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def kept(cli: Callable[..., Ran], model: Path) -> Callable[..., dict[str, Any]]:
    """Render a prompt, keep it, and return its row."""

    def make(prompt: str = "a lighthouse", *arguments: str, seed: int = 7) -> dict[str, Any]:
        ran = cli("generate", prompt, "--seed", str(seed), "--json", *arguments)
        assert (ran.code, ran.err) == (0, "")
        row: dict[str, Any] = ran.lines()[0]
        assert row["stored"]
        return row

    return make
