"""What a client gets from a server, and what becomes of those who leave or die."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from zit_ext.errors import GenerationStoppedError, ModelError
from zit_ext.testing import FAKE_ENVIRONMENT, QuietWatcher, fake_content

from .conftest import World, until


async def test_a_server_starts_with_the_first_miss_and_answers_to_the_bit(world: World) -> None:
    renderer, watcher = world.renderer(), QuietWatcher()
    request = world.request()

    rendered = await renderer.render(request, watcher)

    assert rendered.content == fake_content(request)
    assert rendered.environment == FAKE_ENVIRONMENT
    assert rendered.faithful
    assert rendered.warnings == ()
    assert watcher.steps
    assert watcher.steps[-1] == (request.steps, request.steps)
    await renderer.close()


async def test_two_clients_share_one_server_and_one_load(world: World) -> None:
    one, other = world.renderer(), world.renderer()

    await asyncio.gather(
        *(
            each.render(world.request(f"{number}"), QuietWatcher())
            for number, each in enumerate((one, other, one))
        )
    )

    assert len(world.lines("loads.txt")) == 1
    await asyncio.gather(one.close(), other.close())


async def test_steps_and_previews_come_while_the_render_runs(world: World) -> None:
    renderer, watcher = world.renderer(), QuietWatcher()
    world.hold()
    rendering = asyncio.ensure_future(renderer.render(world.request(), watcher))

    await until(lambda: watcher.steps and watcher.previews)

    assert not rendering.done()
    assert watcher.previews == [b"\x89PNG preview"]
    world.let_go()
    await rendering
    await renderer.close()


async def test_a_client_that_leaves_ends_its_render(world: World) -> None:
    renderer = world.renderer()
    world.hold()
    rendering = asyncio.ensure_future(renderer.render(world.request("left"), QuietWatcher()))
    await until(lambda: world.lines("renders.txt"))

    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering

    await until(lambda: world.lines("ended.txt") == ["left"])
    await renderer.close()


async def test_a_watcher_that_wants_to_stop_is_heard_by_the_server(world: World) -> None:
    renderer, watcher = world.renderer(), QuietWatcher()
    world.hold()
    rendering = asyncio.ensure_future(renderer.render(world.request(), watcher))
    await until(lambda: world.lines("renders.txt"))

    watcher.stop.set()

    with pytest.raises(GenerationStoppedError, match="stopped by the watcher"):
        await rendering
    await renderer.close()


async def test_a_failed_load_gives_its_real_error_and_is_tried_again(world: World) -> None:
    renderer = world.renderer()
    (world.folder / "broken").touch()
    with pytest.raises(ModelError, match="the disk is on fire"):
        await renderer.render(world.request(), QuietWatcher())

    (world.folder / "broken").unlink()
    assert await renderer.render(world.request(), QuietWatcher())
    await renderer.close()


async def test_a_server_killed_in_mid_render_costs_a_retry_and_no_picture(world: World) -> None:
    renderer, watcher = world.renderer(), QuietWatcher()
    world.hold()
    request = world.request("killed")
    rendering = asyncio.ensure_future(renderer.render(request, watcher))
    await until(lambda: world.lines("renders.txt"))
    first = world.pid()

    os.kill(first, signal.SIGKILL)
    world.let_go()
    rendered = await rendering

    assert rendered.content == fake_content(request)
    assert world.lines("renders.txt") == ["killed", "killed"]
    assert world.pid() != first
    assert "a new one made the picture" in rendered.warnings[0]
    await renderer.close()


async def test_weights_are_listed_and_let_go_in_the_server(world: World) -> None:
    renderer = world.renderer()
    request = world.request()
    await renderer.preload(request.model)
    held = await renderer.holdings()
    assert held is not None
    assert [model.source for model in held.models] == [request.model.source]

    assert await renderer.unload(request.model)
    assert await renderer.unload_all() == 0
    held = await renderer.holdings()
    assert held is not None
    assert held.models == ()
    await renderer.close()
