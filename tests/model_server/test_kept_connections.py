"""One connection serves question after question, and never stands in the way."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from zit_ext.errors import GenerationStoppedError, ModelError
from zit_ext.model_server import starting
from zit_ext.model_server.connection import connect
from zit_ext.model_server.starting import stop
from zit_ext.testing import QuietWatcher, fake_content

from .conftest import World, until


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every connection that is made to a server, by its port."""
    made: list[int] = []

    async def counted(port: int, token: str):
        reached = await connect(port, token)
        made.append(port)
        return reached

    monkeypatch.setattr(starting, "connect", counted)
    return made


async def test_one_picture_after_another_comes_over_one_connection(world: World, calls: list[int]) -> None:
    renderer = world.renderer()
    for number in range(5):
        asked = world.request(str(number))
        assert (await renderer.render(asked, QuietWatcher())).content == fake_content(asked)
    assert len(calls) == 1

    together = [world.request(f"together {number}") for number in range(6)]
    answers = await asyncio.gather(*(renderer.render(each, QuietWatcher()) for each in together))
    assert [each.content for each in answers] == [fake_content(each) for each in together]
    assert len(calls) <= 6
    await renderer.close()


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_a_server_that_went_between_two_pictures_is_not_mourned(
    world: World, calls: list[int], how: str
) -> None:
    renderer = world.renderer()
    await renderer.render(world.request("before"), QuietWatcher())
    if how == "stopped":
        assert await stop(world.home)
    else:
        os.kill(world.pid(), signal.SIGKILL)
        await until(lambda: not world.is_alive())

    rendered = await renderer.render(world.request("after"), QuietWatcher())

    assert rendered.warnings == ()
    assert world.lines("renders.txt") == ["before", "after"]
    await renderer.close()


async def test_who_stopped_or_left_a_picture_gets_the_next_one_and_not_the_rest_of_that(world: World) -> None:
    renderer = world.renderer()
    for how in ("stopped", "left"):
        world.hold()
        watcher = QuietWatcher()
        rendering = asyncio.ensure_future(renderer.render(world.request(how), watcher))
        await until(lambda how=how: how in world.lines("renders.txt"))
        if how == "stopped":
            watcher.stop.set()
            with pytest.raises(GenerationStoppedError):
                await rendering
        else:
            rendering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await rendering
        world.let_go()

        asked = world.request(f"after one {how}")
        assert (await renderer.render(asked, QuietWatcher())).content == fake_content(asked)
    await renderer.close()


async def test_an_error_leaves_the_way_open(world: World) -> None:
    renderer = world.renderer()
    (world.folder / "broken").touch()
    with pytest.raises(ModelError, match="on fire"):
        await renderer.render(world.request(), QuietWatcher())
    (world.folder / "broken").unlink()

    assert (await renderer.render(world.request(), QuietWatcher())).content == fake_content(world.request())
    await renderer.close()


async def test_a_connection_that_rests_keeps_no_server_from_ending(world: World) -> None:
    renderer = world.renderer(world.with_settings(server_idle_timeout=0.5))
    await renderer.render(world.request(), QuietWatcher())

    await until(lambda: not world.is_alive())

    assert "the server ends: nobody asks" in world.home.log.read_text()
    await renderer.close()
