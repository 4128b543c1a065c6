"""Many callers at once, who change their minds: everybody is answered, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from random import Random

import pytest

from tests.holder.shelf import ask, quiet, until
from zit_ext.errors import ZitError
from zit_ext.records import ModelRef
from zit_ext.testing import QuietWatcher

NAMES = ("a", "b", "c")


class Storm:
    """What one caller does, by chance."""

    def __init__(self, renderer, shelf, seed: int) -> None:
        self.renderer, self.shelf = renderer, shelf
        self.random = Random(seed)
        self.answered = 0

    async def caller(self, number: int) -> None:
        for turn in range(12):
            await asyncio.sleep(self.random.choice([0, 0, 0.001, 0.005]))
            await self.one(number * 100 + turn)

    async def one(self, seed: int) -> None:
        name, luck = self.random.choice(NAMES), self.random.random()
        model = ModelRef(source=name)
        if luck < 0.55:
            await self.render(name, seed)
        elif luck < 0.7:
            await self.left_early(self.renderer.preload(model))
        elif luck < 0.8:
            await self.renderer.unload(model)
        elif luck < 0.9:
            await self.renderer.give_back(self.random.randint(1, 120))
        elif luck < 0.95:
            await asyncio.to_thread(self.renderer.give_back_blocking, 50, 0.01)
        else:
            await self.renderer.park_all()

    async def render(self, name: str, seed: int) -> None:
        watcher = QuietWatcher()
        if self.random.random() < 0.1:
            self.shelf.failures.setdefault(name, []).append(RuntimeError("a disk"))
        request = ask(name, seed=seed, keep_alive=self.random.choice([None, 0.0, 0.01, -1.0]))
        if self.random.random() < 0.2:
            asyncio.get_running_loop().call_later(self.random.random() / 100, watcher.stop.set)
        await self.left_early(self.renderer.render(request, watcher))

    async def left_early(self, work) -> None:
        patience = self.random.choice([None, None, None, 0.0, 0.002, 0.01])
        with contextlib.suppress(ZitError, asyncio.TimeoutError):
            await asyncio.wait_for(work, patience)
            self.answered += 1


@pytest.mark.parametrize("seed", range(16))
async def test_whatever_many_callers_do_everybody_is_answered_and_nothing_is_left(renderer_with, shelf, seed):
    class Careless(dict):
        """Failures of one load each."""

        def get(self, source, default=None):
            return super().get(source, default) or None

    shelf.failures = Careless()
    shelf.device.total = 150
    budgets = [
        {"vram_bytes": 110},
        {"vram_bytes": 70, "ram_bytes": 150},
        {"max_models": 1},
        {"max_models": 2},
    ]
    renderer = renderer_with(
        **budgets[seed % 4], keep_alive=0.02, ram_keep_alive=0.05, clock=time.time, queue_limit=100
    )
    storm = Storm(renderer, shelf, seed)
    await asyncio.wait_for(asyncio.gather(*(storm.caller(number) for number in range(8))), 60)

    await until(lambda: not renderer._is_busy())
    held = renderer.holdings()
    assert storm.answered > 10
    assert not any(part.leases for model in held.models for part in model.parts)
    assert not any(model.rendering for model in held.models)
    assert (held.queued, held.running, held.loading, held.waiting) == (0, None, None, ())
    shelf.failures.clear()
    await renderer.render(ask("a", seed=9999), quiet())
    await renderer.unload_all()
    await until(lambda: not shelf.unclosed())
    assert shelf.device.used == 0
    assert renderer.holdings().vram_bytes == renderer.holdings().ram_bytes == 0
