"""Servers over fake weights; everything else is real: the store, the engine, the sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from zit_ext.testing import FakePipeline
from zit_ext.testing_engine import TrialEngine

if find_spec("aiohttp") is None or find_spec("requests") is None:
    collect_ignore_glob = ["test_*.py"]  # the group "http" is not installed
else:
    from .server import TOKENS, Served


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(TOKENS, encoding="utf-8")
    return path


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start a server over fake weights, with these settings."""
    opened: list[Any] = []

    def start(doorkeeper: Any = None, **settings: Any) -> Served:
        usual = {"memory_bytes": 10_000_000, "http_patience": 5.0}
        trial = TrialEngine(tmp_path / "cache", installed=False, **{**usual, **settings})
        opened.append(trial)
        served = Served(trial.runtime, **({} if doorkeeper is None else {"doorkeeper": doorkeeper}))
        served.trial = trial  # type: ignore[attr-defined]
        opened.append(served)
        return served

    yield start
    for each in reversed(opened):
        each.trial.pipeline.gate.set() if isinstance(each, Served) else None
        each.close()


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
