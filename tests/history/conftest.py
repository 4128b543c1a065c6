from __future__ import annotations

from collections.abc import Callable

import pytest

from zit_ext.history.recorder import Recorder

from .making import NOW


@pytest.fixture
def recorders(tmp_path):
    opened: list[Recorder] = []

    def open_one(clock: Callable[[], float] = lambda: NOW, **more: object) -> Recorder:
        opened.append(Recorder(tmp_path / "history", clock=clock, write_seconds=60, **more))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()
