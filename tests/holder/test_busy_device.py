"""What is decided while the device's thread is busy, and has not begun what it was told."""

import asyncio
import threading
import time

import pytest

from tests.holder.shelf import ask, quiet, until
from zit_ext.errors import EngineClosedError
from zit_ext.records import ModelRef


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


async def busy(renderer, gate):
    """Keep the device's thread busy until the gate opens, as moving weights of gigabytes does."""
    began = threading.Event()
    renderer._thread.submit_soon(lambda: (began.set(), gate.wait(30)))
    await asyncio.to_thread(began.wait, 30)


async def test_weights_whose_render_is_about_to_begin_are_not_let_go_for_another_model(
    renderer_with, shelf, gate
):
    renderer = renderer_with(max_models=1)
    for source in "ba":
        await renderer.render(ask(source), quiet())
    assert shelf.opened == ["b", "a"]
    await busy(renderer, gate)
    first = asyncio.ensure_future(renderer.render(ask("a", seed=2), quiet()))
    await until(lambda: renderer.holdings().running == "a")
    other = asyncio.ensure_future(renderer.render(ask("b", seed=2), quiet()))
    for _ in range(10):
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, other)
    assert shelf.opened == ["b", "a", "b"]


@pytest.mark.parametrize("asked", ["before their time is over", "after it"])
async def test_weights_whose_render_is_about_to_begin_do_not_expire(renderer_with, shelf, gate, asked):
    renderer = renderer_with(keep_alive=0.05, ram_keep_alive=0.05, clock=time.time)
    await renderer.preload(ModelRef(source="a"))
    await busy(renderer, gate)
    if asked == "after it":
        await asyncio.sleep(0.3)
    rendering = asyncio.ensure_future(renderer.render(ask("a"), quiet()))
    await asyncio.sleep(0.3)
    gate.set()
    await rendering
    assert shelf.opened == ["a"]


async def test_who_preloads_hears_of_the_end_of_a_renderer_whose_device_hangs(renderer_with, gate):
    renderer = renderer_with()
    await renderer.render(ask(), quiet())
    await busy(renderer, gate)
    asked = asyncio.ensure_future(renderer.preload(ModelRef(source="a")))
    await asyncio.sleep(0.01)
    await renderer.close(patience=0.05)
    with pytest.raises(EngineClosedError):
        await asyncio.wait_for(asked, 20)


async def test_who_waits_for_weights_that_went_hears_of_the_end(renderer_with, gate):
    renderer = renderer_with()
    await renderer.render(ask(), quiet())
    await busy(renderer, gate)
    asked = asyncio.ensure_future(renderer.render(ask(seed=2), quiet()))
    await until(lambda: renderer.holdings().running == "a")
    unloading = asyncio.ensure_future(renderer.unload_all())
    await asyncio.sleep(0.01)
    closing = asyncio.ensure_future(renderer.close(patience=20))
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.gather(closing, unloading, return_exceptions=True)
    with pytest.raises(EngineClosedError):
        await asyncio.wait_for(asked, 20)
