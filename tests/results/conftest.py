from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zit_ext.results.store import ResultStore
from zit_ext.settings import Settings
from zit_ext.testing import FakeClock

from .making import index_file, lru

MakeStore = Callable[..., ResultStore]


@pytest.fixture
def counted() -> Counter[str]:
    return Counter()


@pytest.fixture
def memory_bytes() -> int:
    """How much the stores of a test hold in memory: nothing, where the test's file does not say otherwise."""
    return 0


@pytest.fixture
def make_store(
    tmp_path: Path, clock: FakeClock, counted: Counter[str], memory_bytes: int
) -> Iterator[Callable[..., ResultStore]]:
    """Open stores on one folder; what is not named is as in most tests: room enough, no memory tier."""
    opened: list[ResultStore] = []

    def make(*, score: Any = lru, steady: Any = None, disk: Any = None, **changes: Any) -> ResultStore:
        usual = Settings(cache_dir=tmp_path / "cache", max_bytes=10_000_000, memory_bytes=memory_bytes)
        store = ResultStore(
            replace(usual, **changes),
            score=score,
            clock=clock,
            steady=steady,
            disk=disk,
            count=lambda name: counted.update([name]),
        )
        store.open()
        opened.append(store)
        return store

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(make_store) -> ResultStore:
    return make_store()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that the stores of a test share."""
    return tmp_path / "cache" / "results"


@pytest.fixture
def index(folder: Path) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Ask or change the index behind the store's back."""

    def ask(statement: str, *values: object) -> list[tuple[Any, ...]]:
        db = sqlite3.connect(index_file(folder), timeout=10)
        try:
            with db:
                return db.execute(statement, values).fetchall()
        finally:
            db.close()

    return ask
