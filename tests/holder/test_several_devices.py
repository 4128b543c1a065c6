"""Several devices: a worker each, and requests go where their answer is there first."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.holder.shelf import Shelf, ask, quiet, until
from zit_ext.errors import QueueFullError, SettingError
from zit_ext.pipeline import load_device
from zit_ext.records import ModelRef
from zit_ext.renderers.local import LocalRenderer, Outlook
from zit_ext.renderers.several import SeveralDevices, by_expected_wait, renderer_of
from zit_ext.settings import Settings
from zit_ext.testing import fake_content


@pytest.fixture
def shelves():
    return Shelf(), Shelf()


@pytest.fixture
def several(renderer_with, shelves):
    """Two fake GPUs; each reads from a shelf of its own, so that we see which of them did."""

    def open_on(model):
        return shelves[int(load_device.get()[-1])].open(model)

    def make(**changes):
        return SeveralDevices(
            [renderer_with(device=f"cuda:{number}", open_pipeline=open_on, **changes) for number in (0, 1)]
        )

    return make


async def rendered(devices, request):
    """Return the answer once its device is idle again: fake weights are read faster than anything ends."""
    answer = await devices.render(request, quiet())
    await until(lambda: devices.holdings().running is None)
    return answer


def opened(shelves):
    return [shelf.opened for shelf in shelves]


async def test_requests_go_where_the_model_already_is(several, shelves):
    devices = several()
    for source in "abab":
        assert (await rendered(devices, ask(source))).content == fake_content(ask(source))
    assert opened(shelves) == [["a"], ["b"]]


async def test_a_preload_goes_to_the_device_that_holds_less_and_its_requests_follow(several, shelves):
    devices = several()
    for source in "abb":
        await devices.preload(ModelRef(source=source))
    await rendered(devices, ask("b"))
    assert opened(shelves) == [["a"], ["b"]]


async def test_two_devices_render_at_the_same_time(several, shelves):
    devices = several()
    for shelf, source in zip(shelves, "ab", strict=True):
        await rendered(devices, ask(source))
        shelf.pipeline(source).gate.clear()
    both = [asyncio.ensure_future(devices.render(ask(source, seed=2), quiet())) for source in "ab"]
    await until(lambda: sum(model.rendering for model in devices.holdings().models) == 2)
    assert devices.holdings().running == "a, b"
    for shelf, source in zip(shelves, "ab", strict=True):
        shelf.pipeline(source).gate.set()
    await asyncio.gather(*both)


async def test_a_long_line_is_left_for_a_device_that_has_to_read_the_weights(several, shelves):
    devices = several()
    await rendered(devices, ask("a"))
    shelves[0].pipeline("a").gate.clear()
    waiting = [asyncio.ensure_future(devices.render(ask("a", seed=seed), quiet())) for seed in range(20)]
    await until(lambda: shelves[1].opened == ["a"])
    shelves[0].pipeline("a").gate.set()
    await asyncio.gather(*waiting)


async def test_a_full_line_is_passed_by_and_two_are_an_error_with_a_hint(several, shelves):
    devices = several(queue_limit=1)
    for shelf in shelves:
        shelf.prepare = lambda pipeline: pipeline.gate.clear()
    waiting = [asyncio.ensure_future(devices.render(ask("a", seed=seed), quiet())) for seed in range(4)]
    await until(lambda: devices.holdings().queued == 2 and devices.holdings().running == "a, a")
    with pytest.raises(QueueFullError) as refused:
        await devices.render(ask("a", seed=9), quiet())
    assert refused.value.retry_after >= 1
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_the_doors_open_all_devices(several, shelves):
    devices = several()
    for source in "abc":
        await rendered(devices, ask(source))
    held = devices.holdings()
    assert (held.device, held.loads, held.renders, len(held.models)) == ("cuda:0, cuda:1", 3, 3, 3)
    assert held.vram_bytes == 303 == sum(shelf.device.used for shelf in shelves)
    freed = devices.give_back_blocking(1)
    assert 2 <= freed < 303, "something of each device, and no more than that"
    assert await devices.give_back(10**9) == 303 - freed
    await devices.park_all()
    assert sum(shelf.device.used for shelf in shelves) == 0
    assert await devices.unload(ModelRef(source="b")) is True
    assert await devices.unload(ModelRef(source="b")) is False
    assert await devices.unload_all() == 2
    await devices.close()
    await devices.close()


def test_devices_of_the_settings_have_a_renderer_each(tmp_path):
    usual = Settings(cache_dir=tmp_path)
    arguments = {"open_pipeline": lambda model: None, "make_room": lambda wanted, device: 0}
    assert isinstance(renderer_of(usual, **arguments), LocalRenderer)
    two = renderer_of(replace(usual, device="cuda:0, cuda:1,cuda:0"), **arguments)
    assert two.holdings().device == "cuda:0, cuda:1"


@pytest.mark.pipeline
def test_a_model_is_opened_for_the_device_that_asked():
    from zit_ext.models import zimage

    token = load_device.set("cuda:77")
    try:
        with pytest.raises(SettingError, match="cuda:77"):
            zimage.open_pipeline(ModelRef(source="a"), Settings(device="cpu"))
    finally:
        load_device.reset(token)


outlooks = st.builds(
    Outlook, st.booleans(), st.floats(0, 1e4), st.none() | st.floats(0, 1e3), st.integers(0, 9)
)


@given(st.lists(outlooks, min_size=1, max_size=6))
def test_every_device_has_its_place_and_no_better_one_comes_after_it(given_ones):
    order = by_expected_wait(given_ones)
    assert sorted(order) == list(range(len(given_ones)))
    first = given_ones[order[0]]
    assert not any(
        other.has_weights >= first.has_weights and other.wait_seconds < first.wait_seconds - 1e-6
        for other in given_ones
    )
