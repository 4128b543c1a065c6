"""Renderers on a fake GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.holder.shelf import Shelf
from zit_ext.renderers.local import LocalRenderer
from zit_ext.settings import Settings
from zit_ext.testing import FakeClock


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def renderer_with(tmp_path: Path, shelf: Shelf, clock: FakeClock):
    """Make renderers on a fake GPU; what must be different is a setting or an argument by name."""
    made: list[LocalRenderer] = []

    def make(**changes: Any) -> LocalRenderer:
        given = {
            name: changes.pop(name)
            for name in ("make_room", "free_memory", "sleep", "clock", "device", "open_pipeline", "free_ram")
            if name in changes
        }
        arguments: dict[str, Any] = {
            "open_pipeline": shelf.open,
            "make_room": lambda _bytes, _device: 0,
            "device": "cuda:0",
            "clock": clock,
            **given,
        }
        usual = Settings(cache_dir=tmp_path, ram_bytes=0, keep_alive=-1)
        renderer = LocalRenderer(replace(usual, **changes), **arguments)
        made.append(renderer)
        return renderer

    yield make
    for renderer in made:
        await renderer.close(patience=10)


@pytest.fixture
def renderer(renderer_with) -> LocalRenderer:
    return renderer_with()
