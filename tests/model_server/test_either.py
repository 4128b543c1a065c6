"""`renderer = auto`: where a miss goes when model servers come and go beside a program that runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zit_ext.model_server.home import State
from zit_ext.model_server.starting import stop
from zit_ext.models.environment import EnvironmentBook
from zit_ext.pipeline import Rendered, Watcher
from zit_ext.records import Outcome, Request
from zit_ext.renderers.choosing import wants_server
from zit_ext.renderers.either import EitherRenderer
from zit_ext.runtime import Runtime
from zit_ext.testing import QuietWatcher, fake_content, make_request

from .conftest import World

# A program, a server that another program starts beside it, and fake weights that say who read them


@pytest.fixture
def program(world: World) -> Iterator[Runtime]:
    with Runtime(world.with_settings(renderer="auto"), label="comfyui") as runtime:
        yield runtime


def readers(world: World) -> list[int]:
    return [int(line.rpartition(" ")[2]) for line in world.lines("loads.txt")]


async def test_a_server_that_came_after_the_program_gets_its_misses(world: World, program: Runtime) -> None:
    await asyncio.to_thread(world.client("of another program").answer)

    made = await program.generate(world.request("mine"))
    again = await program.generate(world.request("mine"))

    assert (made.status.outcome, made.status.stored) == (Outcome.MISS, True)
    assert again.status.outcome is Outcome.HIT
    assert readers(world) == [world.pid()]
    held = await program.holdings()
    assert held is not None
    assert (held.loads, held.renders) == (1, 2)


async def test_weights_that_are_here_render_here_until_they_go(world: World, program: Runtime) -> None:
    await program.generate(world.request("before the server"))
    await asyncio.to_thread(world.client("starts the server").answer)

    await program.generate(world.request("beside the server"))
    assert readers(world) == [os.getpid(), world.pid()]
    held = await program.holdings()
    assert held is not None
    assert held.renders == 2
    assert await program.unload() == 1

    await program.generate(world.request("after unloading"))
    assert readers(world) == [os.getpid(), world.pid()]
    assert world.lines("renders.txt")[-1] == "after unloading"


async def test_a_preload_goes_to_the_server_that_runs(world: World, program: Runtime) -> None:
    await asyncio.to_thread(world.client("starts the server").answer)

    await program.preload(world.request(weights="weights-b").model)

    assert readers(world) == [world.pid()] * 2


async def test_a_server_that_ended_is_not_started_again_by_a_program_that_can_render(
    world: World, program: Runtime
) -> None:
    await asyncio.to_thread(world.client("starts the server").answer)
    await program.generate(world.request("by the server"))
    assert await stop(world.home)

    made = await program.generate(world.request("after its end"))

    assert (made.status.outcome, made.status.stored) == (Outcome.MISS, True)
    assert readers(world)[-1] == os.getpid()
    assert not world.is_alive()


def test_a_newer_server_is_no_reason_to_fail(world: World) -> None:
    auto = replace(world.settings, renderer="auto")
    lock = world.home.try_lock("lock")
    assert lock is not None
    with world.home.held(lock):
        here = State(port=1, token="t" * 64, pid=1, version="0.0.1", device="cpu")
        world.home.write_state(here)
        assert wants_server(auto)
        world.home.write_state(replace(here, version="999.0.0"))
        assert not wants_server(auto)
        assert wants_server(auto, "a1111")


# Two fakes, whose environments differ


class Fake:
    """A renderer that can be held up, and an environment book of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.environment = {"renderer": name}
        self.environments = EnvironmentBook(folder / name, label=name)
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.renders = 0
        self.held: tuple[str, ...] = ()
        self.closed = False

    async def render(self, request: Request, watcher: Watcher) -> Rendered:
        self.renders += 1
        await self.go_on.wait()
        self.held = ("weights",)
        return Rendered(fake_content(request), 0.1, self.environment)

    def holdings(self) -> Any:
        return SimpleNamespace(models=self.held, running=None, loading=None, queued=0)

    async def close(self) -> None:
        self.closed = True


@dataclass
class Both:
    here: Fake
    there: Fake
    runs: bool = False
    looks: int = 0
    made: list[str] = field(default_factory=list)

    def server_runs(self) -> bool:
        self.looks += 1
        return self.runs

    def maker(self, name: str) -> Callable[[], Any]:
        def make() -> Fake:
            self.made.append(name)
            fake: Fake = getattr(self, name)
            return fake

        return make

    def renderer(self) -> EitherRenderer:
        return EitherRenderer(
            here=self.maker("here"),
            there=self.maker("there"),
            in_server=self.server_runs,
            book=self.here.environments,
        )


@pytest.fixture
async def both(tmp_path: Path) -> Both:
    return Both(Fake("here", tmp_path), Fake("there", tmp_path))


async def ask(renderer: EitherRenderer) -> Rendered:
    return await renderer.render(make_request(), QuietWatcher())


async def test_look_ups_of_a_program_that_renders_itself_look_for_no_server(both: Both) -> None:
    renderer = both.renderer()
    looked = both.looks

    for _ in range(100):
        assert renderer.environments.find("m") is None

    assert (both.looks, both.made) == (looked, [])


async def test_a_miss_with_weights_here_looks_for_no_server(both: Both) -> None:
    renderer = both.renderer()
    await ask(renderer)
    both.runs, looked = True, both.looks

    await ask(renderer)

    assert (both.here.renders, both.looks) == (2, looked)


async def test_an_environment_is_remembered_as_that_of_whoever_rendered_in_it(both: Both) -> None:
    both.runs = True
    renderer = both.renderer()
    by_server = await ask(renderer)
    both.runs = False
    by_us = await ask(renderer)
    assert by_server.environment != by_us.environment

    # Hashed since, and told late: the one in charge is another by now.
    renderer.environments.publish("m", by_server.environment)
    assert both.here.environments.find("m") is None
    assert both.there.environments.find("m") == by_server.environment
    assert renderer.environments.find("m") is None

    renderer.environments.publish("m", by_us.environment)
    assert renderer.environments.find("m") == by_us.environment
    assert both.there.environments.find("m") == by_server.environment


async def test_once_the_server_is_gone_nothing_is_looked_up_as_its_picture(both: Both) -> None:
    both.runs = True
    renderer = both.renderer()
    renderer.environments.publish("m", (await ask(renderer)).environment)
    assert renderer.environments.find("m") == {"renderer": "there"}

    both.runs = False

    assert renderer.environments.find("m") is None


async def test_while_one_request_is_at_the_server_the_others_go_there_too(both: Both) -> None:
    """It may have died a moment ago: whoever asked it starts a new one, and needs no second copy here."""
    both.runs = True
    both.there.go_on.clear()
    renderer = both.renderer()
    first = asyncio.ensure_future(ask(renderer))
    await asyncio.sleep(0)
    both.runs = False

    second = asyncio.ensure_future(ask(renderer))
    await asyncio.sleep(0)
    both.there.go_on.set()
    await asyncio.gather(first, second)

    assert (both.there.renders, both.here.renders) == (2, 0)
    await ask(renderer)
    assert (both.there.renders, both.here.renders) == (2, 1)


async def test_closing_closes_whoever_was_made_and_nobody_else(both: Both) -> None:
    unused = both.renderer()
    await unused.close()
    assert both.made == []

    renderer = both.renderer()
    await ask(renderer)
    await renderer.close()
    assert (both.made, both.here.closed, both.there.closed) == (["here"], True, False)
