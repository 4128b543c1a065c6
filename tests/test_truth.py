"""Many callers ask, cancel and refresh while weights, plugins and environment change: no hit ever lies.

Every picture tells what it was made of. A hit must be of something that was so between question and answer,
and never of a render during which anything changed.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import suppress

import pytest

from zit_ext import CacheMode, Encoded, Outcome, Request, hookimpl
from zit_ext.errors import NotCachedError
from zit_ext.pipeline import Rendered
from zit_ext.testing import QuietWatcher, make_request

TEXT = "text/plain"


class World:
    """What changes a picture from outside of the request. Numbers only grow, so that each state is itself."""

    def __init__(self, files) -> None:
        self.files = files
        self.history = [(0, 0, 0)]
        """Weights, level of the plugin, environment: every state there was, the newest last."""
        self._lock = threading.Lock()
        files.replace("zit", "weights 0")

    @property
    def now(self) -> tuple[int, int, int]:
        return self.history[-1]

    def change(self, which: int) -> None:
        with self._lock:
            state = list(self.now)
            state[which] += 1
            if which == 0:
                self.files.replace("zit", f"weights {state[0]}")
            self.history.append(tuple(state))

    @hookimpl
    def zit_fingerprint_fields(self):
        return {"level": self.now[1]}


class Brush:
    """Weights that paint what they are made of, before and after."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.chance = chance

    def render(self, request, lease, watcher):
        before = self.world.now
        time.sleep(self.chance.uniform(0, 0.006))
        watcher.step(1, 1)
        after = self.world.now
        text = f"{request.prompt}|{request.seed}|{before}|{after}"
        environment = {"device": "fake", "version": after[2]}
        return Rendered(Encoded(TEXT, text.encode()), 1.0, environment, faithful=before[2] == after[2])


def check(result, asked: Request, history: list[tuple[int, int, int]], since: int) -> None:
    """Fail if the answer is of another request, or a hit that is of nothing that was so meanwhile."""
    prompt, seed, before, after = result.data().decode().split("|")
    assert prompt == asked.prompt
    assert int(seed) == result.request.seed
    assert asked.seed in (-1, int(seed))
    if result.status.outcome is Outcome.HIT:
        assert before == after, "a render during which something changed was kept"
        weights, level, _environment = eval_state(before)
        assert (weights, level) in {(each[0], each[1]) for each in history[since:]}
        assert eval_state(before) in history


def eval_state(text: str) -> tuple[int, ...]:
    return tuple(int(each) for each in text.strip("()").split(","))


async def ask_now_and_then(engine, world: World, chance: random.Random, counted: list[Outcome]) -> None:
    for _ in range(14):
        seeds = [chance.choice([1, 2, 3, -1]) for _ in range(chance.choice([1, 1, 1, 3]))]
        mode = chance.choice([*CacheMode, CacheMode.USE, CacheMode.USE, CacheMode.USE])
        requests = [
            make_request(prompt=chance.choice("ab"), seed=seed, cache=mode, media_type=TEXT) for seed in seeds
        ]
        since = len(world.history) - 1
        watcher = chance.choice([None, QuietWatcher()])
        asking = asyncio.ensure_future(engine.generate_many(requests, watcher))
        # Counted, not timed: a busy machine must not see more changes than hits.
        if chance.random() < 0.15:
            await asyncio.sleep(chance.uniform(0, 0.01))
            disturb(world, chance)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.uniform(0, 0.02))
            asking.cancel()
        with suppress(asyncio.CancelledError, NotCachedError):
            for request, result in zip(requests, await asking, strict=True):
                check(result, request, world.history, since)
                counted.append(result.status.outcome)
        await asyncio.sleep(chance.uniform(0, 0.01))


def disturb(world: World, chance: random.Random) -> None:
    what = chance.randrange(5)
    if what < 3:
        world.change(what)
    elif what == 3:
        world.files.unhashed.add("zit")
    else:
        world.files.unhashed.discard("zit")


@pytest.mark.parametrize("number", range(6))
async def test_no_hit_lies_whatever_happens_meanwhile(in_engine, pipeline, plugins, files, number):
    chance = random.Random(number)
    world = World(files)
    files.hashed.set()
    plugins.register(world, "world")
    pipeline.render = Brush(world, chance).render
    counted: list[Outcome] = []

    async def story(engine):
        luck = [random.Random(f"{number} {caller}") for caller in range(6)]
        await asyncio.gather(*(ask_now_and_then(engine, world, each, counted) for each in luck))
        # When all is quiet again, the cache works as if nothing had been.
        files.unhashed.discard("zit")
        since = len(world.history) - 1
        for expected in (Outcome.MISS, Outcome.HIT):
            request = make_request(prompt="quiet", media_type=TEXT, seed=len(counted))
            result = await engine.generate(request)
            check(result, request, world.history, since)
            assert result.status.outcome is expected

    await in_engine(story, keep_random=True)
    await in_engine(story, keep_random=True, consistency=chance.choice(["exact", "portable"]))
    assert {Outcome.MISS, Outcome.BYPASS} <= set(counted)
