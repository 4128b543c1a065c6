"""Many switches, many people: everything is accounted for, and nothing grows."""

import asyncio
import gc
import random
import threading
import tracemalloc
from collections import Counter
from typing import ClassVar

import pytest

from tests.holder.shelf import DevicePipeline, ask, quiet
from zit_ext.errors import GenerationStoppedError
from zit_ext.pipeline import WeightTier
from zit_ext.testing import fake_content


class Strict(DevicePipeline):
    """Notes when two of its kind render at once, when a stage lacks its part, when a leased part moves."""

    inside = 0
    broken: ClassVar[list[str]] = []
    leased = None

    def render(self, request, lease, watcher):
        if Strict.inside:
            self.broken.append("two renders at once on one device")
        Strict.inside += 1
        try:
            for part in self.parts:
                with lease(part.name):
                    self._stage(part.name, watcher)
            return super().render(request, lease, watcher)
        finally:
            Strict.inside -= 1

    def move(self, part, tier):
        if part == self.leased:
            self.broken.append("a leased part was moved")
        super().move(part, tier)

    def _stage(self, part, watcher):
        if self.tiers[part] is not WeightTier.VRAM:
            self.broken.append("a stage ran without its part")
        self.leased = part
        try:
            self.wait(watcher)
        finally:
            self.leased = None


@pytest.fixture(autouse=True)
def nothing_broken():
    Strict.broken.clear()
    yield
    assert Strict.broken == []


async def test_a_thousand_switches_among_three_models_under_a_budget_for_one(renderer_with, shelf):
    shelf.kind = Strict
    shelf.device.total = 110
    renderer = renderer_with(max_models=1, vram_bytes=110)

    async def switch(times):
        for number in range(times):
            request = ask("abc"[number % 3], seed=number)
            assert (await renderer.render(request, quiet())).content == fake_content(request)

    await switch(30)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await switch(1000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 200_000, f"{grown} bytes more than before"
    assert len(shelf.opened) == 1030
    assert shelf.alive() == 1
    assert shelf.unclosed() == 1
    assert shelf.device.most <= 110
    assert renderer.holdings().renders == 1030


async def test_a_thousand_switches_with_room_in_ram_are_three_loads(renderer_with, shelf):
    shelf.kind = Strict
    shelf.device.total = 110
    renderer = renderer_with(vram_bytes=110)
    for number in range(1000):
        await renderer.render(ask("abc"[number % 3], seed=number), quiet())
    assert shelf.opened == ["a", "b", "c"]
    assert renderer.holdings().vram_bytes == shelf.device.used <= 110


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_thousand_people_five_models_and_many_who_leave(renderer_with, shelf, seed):
    """Cancels while waiting, loading and rendering; stops by watchers; renders and loads that fail."""
    chance = random.Random(seed)
    shelf.kind = Strict

    def misfortune(pipeline):
        pipeline.failures += [ValueError("a mishap")] * 2 + [MemoryError()]

    shelf.prepare = misfortune
    shelf.failures["d"] = [OSError("the disk"), OSError("the disk")]
    shelf.device.total = 250
    renderer = renderer_with(max_models=2, vram_bytes=250, ram_bytes=300, queue_limit=1000)
    outcomes, fates = Counter(), Counter()

    async def person(number):
        await asyncio.sleep(chance.random() * 0.2)
        request = ask("abcde"[number % 5], seed=number, priority=chance.choice([-1, 0, 0, 1]))
        watcher = quiet()
        rendering = asyncio.ensure_future(renderer.render(request, watcher))
        fate = chance.random()
        if fate < 0.3:
            fates["leaves"] += 1
            await asyncio.sleep(chance.random() * 0.3)
            rendering.cancel()
        elif fate < 0.4:
            fates["stops"] += 1
            watcher.stop.set()
        try:
            rendered = await rendering
        except asyncio.CancelledError:
            outcomes["left"] += 1
        except GenerationStoppedError:
            outcomes["stopped"] += 1
        except Exception as error:
            outcomes[type(error).__name__] += 1
        else:
            assert rendered.content == fake_content(request), "somebody else's picture"
            outcomes["answered"] += 1

    await asyncio.gather(*(person(number) for number in range(1000)))
    assert sum(outcomes.values()) == 1000
    assert set(outcomes) <= {"left", "stopped", "answered", "ModelError"}
    assert outcomes["left"] <= fates["leaves"]
    assert outcomes["stopped"] <= fates["stops"]
    # Two mishaps for each pipeline, and at most everybody who asked for the model on the bad disk.
    assert outcomes["ModelError"] <= 2 * len(shelf.refs) + 200
    held = renderer.holdings()
    assert held.queued == 0
    assert not any(part.leases for model in held.models for part in model.parts)
    assert len(held.models) <= 2
    assert held.vram_bytes == shelf.device.used
    assert shelf.unclosed() == len(held.models)
    await renderer.unload_all()
    gc.collect()
    assert shelf.alive() == 0


async def test_hosts_that_ask_back_all_the_time_disturb_nobody(renderer_with, shelf):
    shelf.kind = Strict
    renderer = renderer_with(vram_bytes=250)
    end = threading.Event()

    def host():
        while not end.wait(0.001):
            renderer.give_back_blocking(50, patience=0.01)

    hosts = [asyncio.create_task(asyncio.to_thread(host)) for _ in range(2)]
    try:
        for number in range(200):
            request = ask("abc"[number % 3], seed=number)
            assert (await renderer.render(request, quiet())).content == fake_content(request)
            if number % 10 == 0:
                await renderer.unload_all()
    finally:
        end.set()
        await asyncio.gather(*hosts)
    assert renderer.holdings().vram_bytes == shelf.device.used
