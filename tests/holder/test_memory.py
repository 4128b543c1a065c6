"""Out of memory: everything idle goes, we wait until it is really gone, and try once more."""

import asyncio

import pytest

from tests.holder.shelf import Device, DevicePipeline, ask, quiet, until_it_renders
from zit_ext.errors import GenerationStoppedError, ModelError, OutOfMemoryError
from zit_ext.models.device_memory import DeviceMemory, available_ram
from zit_ext.pipeline import WeightTier
from zit_ext.records import ModelRef
from zit_ext.renderers.failures import as_ours, is_out_of_memory
from zit_ext.renderers.second_try import MOST_SECONDS, POLL_SECONDS, until_free
from zit_ext.testing import make_request


class Naps:
    """Sleeps that take no time, and during which something may happen."""

    def __init__(self, then=lambda: None):
        self.slept = []
        self.then = then

    async def __call__(self, seconds):
        self.slept.append(seconds)
        self.then()


class TorchLikeError(RuntimeError):
    pass


TorchLikeError.__name__ = "OutOfMemoryError"


async def test_a_render_that_did_not_fit_is_tried_once_more_with_everything_idle_parked(renderer, shelf):
    await renderer.render(ask("b"), quiet())
    await renderer.render(ask("a"), quiet())
    shelf.pipeline("a").failures.append(MemoryError())
    await renderer.render(ask("a", seed=2), quiet())
    assert set(shelf.pipeline("b").tiers.values()) == {WeightTier.RAM}
    assert len(shelf.opened) == 2


@pytest.mark.parametrize("error", [MemoryError(), TorchLikeError("CUDA out of memory"),
                                   OutOfMemoryError(needed=9, free=1, device="cuda:0")])  # fmt: skip
async def test_a_second_time_is_an_error_with_numbers_and_the_next_picture_works(renderer_with, shelf, error):
    shelf.device.total = 1000
    naps = Naps()
    renderer = renderer_with(free_memory=shelf.device.free, sleep=naps)
    await renderer.render(ask(), quiet())
    shelf.pipeline("a").failures += [error, error]
    with pytest.raises(OutOfMemoryError) as caught:
        await renderer.render(ask(seed=2), quiet())
    assert caught.value.needed > 0
    assert caught.value.free > 0
    assert caught.value.device == "cuda:0"
    await renderer.render(ask(seed=3), quiet())
    assert len(shelf.opened) == 1


async def test_the_second_try_waits_until_the_memory_is_really_free(renderer_with, shelf):
    shelf.device = Device(total=10_000_000_000)
    shelf.device.foreign = 9_999_000_000
    naps = Naps(then=lambda: setattr(shelf.device, "foreign", shelf.device.foreign - 4_000_000_000))
    renderer = renderer_with(free_memory=shelf.device.free, sleep=naps)
    shelf.prepare = lambda pipeline: pipeline.failures.append(MemoryError())
    await renderer.render(ask(), quiet())
    assert naps.slept == [POLL_SECONDS]


async def test_waiting_for_memory_has_an_end():
    naps = Naps()

    async def free():
        return 3

    assert await until_free(free, 5, naps) == 3
    assert sum(naps.slept) == MOST_SECONDS


async def test_where_nobody_knows_what_is_free_nobody_waits():
    naps = Naps()

    async def free():
        return None

    assert await until_free(free, 5, naps) is None
    assert naps.slept == []


async def test_who_leaves_while_it_waits_for_memory_is_not_rendered_for(renderer_with, shelf):
    shelf.device = Device(total=10)
    watcher = quiet()
    renderer = renderer_with(free_memory=shelf.device.free, sleep=Naps(then=watcher.stop.set))
    with pytest.raises(GenerationStoppedError):
        await renderer.render(ask(), watcher)


async def test_weights_that_do_not_fit_on_the_device_are_an_error_with_numbers(renderer_with, shelf):
    shelf.device.total = 50
    renderer = renderer_with(sleep=Naps())
    with pytest.raises(OutOfMemoryError):
        await renderer.render(ask(), quiet())
    shelf.device.total = 1000
    await renderer.render(ask(), quiet())


async def test_a_load_that_did_not_fit_is_tried_once_more_with_everything_idle_gone(renderer, shelf):
    await renderer.render(ask("a"), quiet())
    shelf.failures["b"] = [MemoryError()]
    await renderer.render(ask("b"), quiet())
    assert shelf.opened == ["a", "b", "b"]
    assert [model.source for model in renderer.holdings().models] == ["b"]


async def test_a_load_that_never_fits_is_an_error_and_the_others_go_on(renderer, shelf):
    shelf.failures["b"] = [MemoryError(), MemoryError()]
    with pytest.raises(OutOfMemoryError):
        await renderer.render(ask("b"), quiet())
    await renderer.render(ask("a"), quiet())


async def test_a_load_that_never_fits_is_told_with_numbers(renderer_with, shelf, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(bytes(5000))
    shelf.failures["a"] = [MemoryError(), MemoryError()]
    renderer = renderer_with(sleep=Naps())
    model = ModelRef(source="a", path=tmp_path / "a.safetensors", identity="1")
    with pytest.raises(OutOfMemoryError) as caught:
        await renderer.render(make_request(model=model), quiet())
    assert (caught.value.needed, caught.value.device) == (5000, "cpu")
    assert caught.value.free == pytest.approx(available_ram() or 0, rel=0.5)


async def test_a_model_that_renders_survives_anothers_lack_of_memory(renderer, shelf):
    await renderer.render(ask("a"), quiet())
    pipeline = shelf.pipeline("a")
    pipeline.gate.clear()
    rendering = asyncio.ensure_future(renderer.render(ask("a", seed=2), quiet()))
    await until_it_renders(renderer)
    shelf.failures["b"] = [MemoryError()]
    other = asyncio.ensure_future(renderer.render(ask("b"), quiet()))
    await asyncio.sleep(0.05)
    assert not pipeline.closed
    pipeline.gate.set()
    await asyncio.gather(rendering, other)


async def test_after_out_of_memory_more_is_kept_free_for_that_model(renderer_with, shelf):
    shelf.device.total = 20_000_000_000
    shelf.sizes = {"transformer": 8_000_000_000}
    renderer = renderer_with(free_memory=shelf.device.free)
    await renderer.render(ask("a"), quiet())
    await renderer.render(ask("b"), quiet())
    assert renderer.holdings().vram_bytes == 16_000_000_000, "both beside each other"
    shelf.pipeline("b").failures.append(MemoryError())
    await renderer.render(ask("b"), quiet())
    shelf.pipeline("b").failures.append(MemoryError())
    await renderer.render(ask("b"), quiet())
    await renderer.render(ask("a"), quiet())
    await renderer.render(ask("b"), quiet())
    assert renderer.holdings().vram_bytes == 8_000_000_000, "one is parked to leave room for activations"


async def test_what_activations_really_used_is_learned(renderer_with, shelf, monkeypatch):
    monkeypatch.setattr(DeviceMemory, "stage_bytes", lambda memory: 7_000_000_000)
    shelf.device.total = 20_000_000_000
    shelf.sizes = {"transformer": 7_000_000_000}
    renderer = renderer_with(free_memory=shelf.device.free)
    await renderer.render(ask("a"), quiet())
    await renderer.render(ask("b"), quiet())
    assert renderer.holdings().vram_bytes == 14_000_000_000, "before b was ever seen, both fit"
    await renderer.render(ask("a"), quiet())
    assert renderer.holdings().vram_bytes == 7_000_000_000


def test_a_libraries_error_and_a_plugins_because_of_one_mean_the_same():
    plugin = ModelError("plugin 'zimage' failed")
    plugin.__cause__ = TorchLikeError("Tried to allocate 2.50 GiB")
    assert is_out_of_memory(plugin)
    assert isinstance(as_ours(plugin, "reading", "cpu"), OutOfMemoryError)
    assert not is_out_of_memory(ModelError("torn"))
    own = OutOfMemoryError(needed=5, free=1, device="cpu")
    assert as_ours(own, "reading", "cpu") is own


async def test_parking_that_fails_does_not_cost_the_picture_that_was_rendered(renderer_with, shelf):
    renderer = renderer_with(keep_alive=0)

    class Stuck(DevicePipeline):
        def move(self, part, tier):
            if tier is WeightTier.RAM:
                raise RuntimeError("the driver is gone")
            super().move(part, tier)

    shelf.kind = Stuck
    await renderer.render(ask(), quiet())
    await renderer.render(ask(seed=2), quiet())
