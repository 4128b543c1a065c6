"""What a client gets from a server, and what becomes of those who leave or die."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from zit_ext.errors import EngineClosedError, GenerationStoppedError, ModelError, QueueFullError, ServerError
from zit_ext.model_server import protocol
from zit_ext.model_server.home import ServerHome
from zit_ext.model_server.starting import stop
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
    with pytest.raises(ModelError, match=r"^the disk is on fire$"):
        await renderer.render(world.request(), QuietWatcher())

    (world.folder / "broken").unlink()
    assert await renderer.render(world.request(), QuietWatcher())
    await renderer.close()


async def test_a_load_that_hangs_is_given_up_and_the_client_is_told(world: World) -> None:
    renderer = world.renderer(world.with_settings(load_timeout=0.3))
    (world.folder / "slow").touch()

    with pytest.raises(ModelError, match=r"took longer than 0\.3 seconds"):
        await renderer.render(world.request(), QuietWatcher())
    await renderer.close()


async def test_a_full_queue_says_when_to_come_again(world: World) -> None:
    renderer = world.renderer(world.with_settings(queue_limit=1))
    world.hold()
    first = asyncio.ensure_future(renderer.render(world.request("first"), QuietWatcher()))
    await until(lambda: world.lines("renders.txt"))
    second = asyncio.ensure_future(renderer.render(world.request("second"), QuietWatcher()))
    while (held := await renderer.holdings()) is None or held.queued == 0:  # noqa: ASYNC110 - asked, not told
        await asyncio.sleep(0.02)

    with pytest.raises(QueueFullError) as refused:
        await renderer.render(world.request("third"), QuietWatcher())

    assert refused.value.limit == 1
    assert refused.value.retry_after >= 1.0
    world.let_go()
    await asyncio.gather(first, second)
    await renderer.close()


async def test_a_request_that_waits_is_forgotten_when_its_client_leaves(world: World) -> None:
    renderer = world.renderer()
    world.hold()
    first = asyncio.ensure_future(renderer.render(world.request("first"), QuietWatcher()))
    await until(lambda: world.lines("renders.txt"))
    second = asyncio.ensure_future(renderer.render(world.request("second"), QuietWatcher()))
    while (held := await renderer.holdings()) is None or held.queued == 0:  # noqa: ASYNC110 - asked, not told
        await asyncio.sleep(0.02)

    second.cancel()
    while (held := await renderer.holdings()) is None or held.queued:  # noqa: ASYNC110 - asked, not told
        await asyncio.sleep(0.02)

    world.let_go()
    await first
    assert world.lines("renders.txt") == ["first"]
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


async def test_a_picture_that_kills_every_server_is_given_up_after_the_second(world: World) -> None:
    renderer = world.renderer()
    world.hold()
    rendering = asyncio.ensure_future(renderer.render(world.request("deadly"), QuietWatcher()))
    for number in (1, 2):
        await until(lambda number=number: len(world.lines("renders.txt")) == number)
        os.kill(world.pid(), signal.SIGKILL)

    with pytest.raises(ServerError, match="two model servers in a row were lost"):
        await rendering
    assert world.lines("renders.txt") == ["deadly", "deadly"]
    await renderer.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot be stopped by a signal")
async def test_a_server_that_hangs_is_given_up_and_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr("zit_ext.model_server.connection.HANDSHAKE_SECONDS", 1.0)
    renderer = world.renderer()
    world.hold()
    rendering = asyncio.ensure_future(renderer.render(world.request("hangs"), QuietWatcher()))
    await until(lambda: world.lines("renders.txt"))
    pid = world.pid()

    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(ServerError, match=rf"process {pid}\) is there and does not answer"):
            await rendering
    finally:
        os.kill(pid, signal.SIGCONT)
    await until(lambda: world.lines("ended.txt") == ["hangs"])  # and the request was taken back
    await renderer.close()


async def test_a_server_that_is_told_to_end_costs_no_picture(world: World) -> None:
    renderer = world.renderer()
    world.hold()
    request = world.request("stopped")
    rendering = asyncio.ensure_future(renderer.render(request, QuietWatcher()))
    await until(lambda: world.lines("renders.txt"))
    first = world.pid()

    assert await stop(world.home)
    world.let_go()
    rendered = await rendering

    assert rendered.content == fake_content(request)
    assert world.pid() != first
    await renderer.close()


async def test_closing_leaves_the_conversation_and_not_the_server(world: World) -> None:
    renderer = world.renderer()
    world.hold()
    rendering = asyncio.ensure_future(renderer.render(world.request("left"), QuietWatcher()))
    await until(lambda: world.lines("renders.txt"))

    await renderer.close()

    with pytest.raises(EngineClosedError):
        await rendering
    with pytest.raises(EngineClosedError):
        await renderer.render(world.request(), QuietWatcher())
    await until(lambda: world.lines("ended.txt") == ["left"])
    assert world.is_alive()


async def test_weights_are_listed_parked_and_let_go_in_the_server(world: World) -> None:
    renderer = world.renderer()
    request = world.request()
    await renderer.preload(request.model)
    held = await renderer.holdings()
    assert held is not None
    assert [model.source for model in held.models] == [request.model.source]
    assert held.vram_bytes == 101
    assert await renderer.give_back(1) > 0
    await renderer.park_all()
    held = await renderer.holdings()
    assert held is not None
    assert (held.vram_bytes, held.ram_bytes) == (0, 101)

    assert await renderer.unload(request.model)
    assert await renderer.unload_all() == 0
    held = await renderer.holdings()
    assert held is not None
    assert held.models == ()
    await renderer.close()


async def test_where_no_server_runs_there_is_nothing_to_let_go_and_none_is_started(world: World) -> None:
    renderer = world.renderer()
    assert await renderer.holdings() is None
    assert not await renderer.unload(world.request().model)
    assert await renderer.unload_all() == 0
    assert await renderer.give_back(1) == 0
    assert not world.home.folder.exists()
    await renderer.close()


async def test_a_server_renders_on_all_devices_of_its_settings(world: World) -> None:
    settings = world.with_settings(device="gpu:0, gpu:1")
    renderer = world.renderer(settings)
    world.hold()
    asked = [world.request("left", "weights-a"), world.request("right", "weights-b")]
    rendering = [asyncio.ensure_future(renderer.render(each, QuietWatcher())) for each in asked]
    try:
        await until(lambda: len(world.lines("renders.txt")) == 2)  # at the same time: both are held up

        held = await renderer.holdings()
        assert held is not None
        assert held.device == "gpu:0, gpu:1"
        assert {each.source for each in held.models} == {each.model.source for each in asked}
        world.let_go()
        contents = [each.content for each in await asyncio.gather(*rendering)]
        assert contents == [fake_content(each) for each in asked]

        await renderer.render(world.request("again", "weights-b"), QuietWatcher())
        assert len(world.lines("loads.txt")) == 2  # each went where its model is
    finally:
        world.let_go()
        await stop(ServerHome.of(settings))
        await renderer.close()
