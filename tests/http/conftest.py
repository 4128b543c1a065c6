"""Servers over fake weights; everything else is real: the store, the engine, the sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from zit_ext.testing import FakePipeline
from zit_ext.testing_engine import TrialEngine

if find_spec("aiohttp") is None or find_spec("requests") is None:
    collect_ignore_glob = ["test_*.py"]  # the group "http" is not installed
else:
    from .server import TOKENS, Opens, Served


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(TOKENS, encoding="utf-8")
    return path


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start a server over fake weights, with these settings (and whatever else a TrialEngine takes)."""
    with ExitStack() as opened:

        def start(doorkeeper: Any = None, **settings: Any) -> Served:
            usual = {"memory_bytes": 10_000_000, "http_patience": 5.0}
            trial = opened.enter_context(
                TrialEngine(tmp_path / "cache", installed=False, **{**usual, **settings})
            )
            served = Served(trial.runtime, **({} if doorkeeper is None else {"doorkeeper": doorkeeper}))
            served.trial = trial  # type: ignore[attr-defined]
            opened.callback(served.close)
            opened.callback(lambda: trial.pipeline.gate.set())
            return served

        yield start


@pytest.fixture
def holding(serving: Callable[..., Served], tmp_path: Path) -> Callable[..., Served]:
    """Start a server that holds, parks and leases weights named "mine", as it would real ones."""

    def start(**settings: Any) -> Served:
        folder, pipeline = tmp_path / "mine", FakePipeline()
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weights")
        usual = {"model": str(folder), "device": "cpu", "renderer": "local"}
        served = serving(plugins={"opens": Opens(pipeline)}, real_weights=True, **{**usual, **settings})
        served.trial.pipeline = pipeline  # type: ignore[attr-defined]
        return served

    return start


@pytest.fixture
def served(serving: Callable[..., Served]) -> Served:
    return serving()


@pytest.fixture
def guarded(serving: Callable[..., Served], tokens: Path) -> Served:
    """A server that wants tokens."""
    return serving(http_tokens=str(tokens))


@pytest.fixture
def pipeline(served: Served) -> FakePipeline:
    return served.trial.pipeline  # type: ignore[attr-defined,no-any-return]
