from __future__ import annotations

import json
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from zit_ext.models import digests as digests_module
from zit_ext.models.digests import Digests
from zit_ext.models.resolver import Resolver
from zit_ext.records import ModelRef, Request
from zit_ext.settings import Settings
from zit_ext.testing import FakeClock

from .fake_hub import FakeHub

timed_changes = pytest.mark.skipif(os.name == "nt", reason="Windows tells no time of the last change")

PARTS = ("text_encoder", "transformer", "vae")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    yield hub
    hub.close()


@pytest.fixture
def hub_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of Hugging Face's tools: no cache, no token, the network allowed."""
    for name in (
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_TOKEN",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return tmp_path / "hf"


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A model in the layout of diffusers, with files that are weights by name only."""
    return write_model(tmp_path / "model")


@pytest.fixture
def put() -> Callable[..., Path]:
    return write


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    """Digests for which every file was written long ago."""
    return Digests(tmp_path / "cache", clock=later())


@pytest.fixture
def unreadable() -> Iterator[Path]:
    """A file that we may not read, and a folder `closed` beside it. No superuser may either."""
    if os.name == "nt":
        pytest.skip("Windows has no permissions of this kind")
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = write(folder / "model.safetensors", safetensors({"x": "F32"}))
    path.chmod(0)
    (folder / "closed").mkdir(mode=0)
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    try:
        yield path
    finally:
        if superuser:
            os.seteuid(0)
        shutil.rmtree(folder)


def later(seconds: float = 3600.0) -> FakeClock:
    """Return a clock for which what is written now was written so long ago."""
    return FakeClock(time.time() + seconds)


def write(path: Path, content: bytes | str = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def safetensors(tensors: Mapping[str, str], metadata: Mapping[str, str] | None = None) -> bytes:
    """Return a whole safetensors file: one number of each tensor, in the format that it names."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, dtype in tensors.items():
        start, end = end, end + {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}.get(dtype, 1)
        header[name] = {"dtype": dtype, "shape": [1], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def write_model(folder: Path, salt: str = "") -> Path:
    write(
        folder / "model_index.json",
        '{"_class_name": "ZImagePipeline",'
        ' "scheduler": ["diffusers", "S"], "tokenizer": ["transformers", "T"],'
        ' "text_encoder": ["transformers", "Q"], "transformer": ["diffusers", "Z"],'
        ' "vae": ["diffusers", "A"]}',
    )
    for part in PARTS:
        write(folder / part / "config.json", "{}")
        write(folder / part / "model.safetensors", safetensors({f"weights of {part}{salt}": "F32"}))
    write(folder / "tokenizer" / "tokenizer.json", "{}")
    write(folder / "tokenizer" / "chat_template.jinja", "{{ x }}")
    write(folder / "scheduler" / "scheduler_config.json", "{}")
    return folder


def age(path: Path, seconds: float) -> None:
    """Make the file look as if it was last written so many seconds ago."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


@pytest.fixture
def nobody_reads(monkeypatch):
    """From now on a file that is read fails the test."""

    def refuse(seen, wants_stop=None):
        raise AssertionError(f"{seen.path} was read")

    def begin():
        monkeypatch.setattr(digests_module, "hash_file", refuse)

    return begin


@pytest.fixture
def settings(tmp_path):
    return Settings(
        cache_dir=tmp_path / "cache", data_dir=tmp_path / "data", model_dirs=(tmp_path / "models",)
    )


@pytest.fixture
def resolver(settings):
    return Resolver(settings, clock=later())


def ask(model, **fields) -> Request:
    ref = model if isinstance(model, ModelRef) else ModelRef(source=str(model))
    return Request(prompt="a cat", seed=1, model=ref, **fields)
