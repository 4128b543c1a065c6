"""A pytest plugin for authors of plugins. Turn it on in your pyproject.toml:

    [tool.pytest.ini_options]
    addopts = ["-p", "zit_ext.testing_pytest"]

It is no entry point: an installed zit_ext shall change nobody's tests who did not ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .testing_engine import TrialEngine


@pytest.fixture
def make_zit_engine(tmp_path: Path) -> Iterator[Callable[..., TrialEngine]]:
    """Return a function that opens a `TrialEngine` with the options you give; all are closed at the end.

    Engines of one test share a folder, as programs of one user do: open a second one to see what an
    entry is worth after a restart.
    """
    with ExitStack() as opened:

        def make(**options: object) -> TrialEngine:
            return opened.enter_context(TrialEngine(tmp_path / "zit_ext", **options))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def zit_engine(make_zit_engine: Callable[..., TrialEngine]) -> TrialEngine:
    """An engine with the plugins that are installed, on an empty store, with fake weights."""
    return make_zit_engine()
