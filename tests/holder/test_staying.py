"""How long weights stay, and how they go: keep_alive, unload, what hosts ask back, the end."""

import asyncio
import gc
import logging
import threading
import time
import weakref

import pytest

from tests.holder.shelf import ask, quiet, until, until_it_renders
from zit_ext.errors import EngineClosedError, GenerationStoppedError, ModelError
from zit_ext.pipeline import WeightTier
from zit_ext.records import ModelRef


def tiers(shelf, source="a"):
    return set(shelf.pipeline(source).tiers.values())


async def test_keep_alive_of_zero_parks_after_the_render(renderer, shelf):
    await renderer.render(ask(keep_alive=0.0), quiet())
    await until(lambda: tiers(shelf) == {WeightTier.RAM})
    await renderer.render(ask(), quiet())
    assert len(shelf.opened) == 1


async def test_weights_that_somebody_waits_for_are_not_parked_first(renderer_with, shelf):
    renderer = renderer_with(keep_alive=0)
    await asyncio.gather(*(renderer.render(ask(seed=seed), quiet()) for seed in range(5)))
    await until(lambda: tiers(shelf) == {WeightTier.RAM})
    assert len(shelf.pipeline("a").moves) == 6, "each part came once and left once"


async def test_each_request_may_say_how_long_its_weights_stay(renderer_with, shelf):
    renderer = renderer_with(keep_alive=0.02, clock=time.time)
    await renderer.render(ask("a", keep_alive=-1.0), quiet())
    await renderer.render(ask("b"), quiet())
    await until(lambda: tiers(shelf, "b") == {WeightTier.RAM})
    assert tiers(shelf, "a") == {WeightTier.VRAM}


async def test_each_model_may_have_its_own_time(renderer_with, shelf):
    renderer = renderer_with(keep_alive=-1, model_keep_alive=("b=0", "org/c=5 min"))
    for source in "ab":
        await renderer.render(ask(source), quiet())
    await until(lambda: tiers(shelf, "b") == {WeightTier.RAM})
    assert tiers(shelf, "a") == {WeightTier.VRAM}
    await renderer.render(ask("b", keep_alive=-1.0), quiet())
    await renderer.preload(ModelRef(source="org/c"))
    held = {model.source: model.keep_alive for model in renderer.holdings().models}
    assert held == {"a": -1, "b": -1, "org/c": 300}, "a request's own wish comes first"


async def test_idle_weights_leave_the_device_and_then_the_ram_by_themselves(renderer_with, shelf, clock):
    renderer = renderer_with(keep_alive=0.05, ram_keep_alive=1000)
    await renderer.render(ask(), quiet())
    assert tiers(shelf) == {WeightTier.VRAM}
    clock.advance(1)
    await until(lambda: tiers(shelf) == {WeightTier.RAM})
    assert not shelf.pipeline("a").closed


async def test_weights_that_nobody_used_for_long_are_let_go(renderer_with, shelf, clock):
    renderer = renderer_with(keep_alive=0.05, ram_keep_alive=0.05)
    await renderer.render(ask(), quiet())
    clock.advance(1)
    await until(lambda: not renderer.holdings().models)
    assert shelf.unclosed() == 0


async def test_a_preload_reads_the_weights_and_brings_them_near(renderer, shelf):
    await renderer.preload(ModelRef(source="a"))
    assert tiers(shelf) == {WeightTier.VRAM}
    await renderer.render(ask("a"), quiet())
    assert shelf.opened == ["a"]


async def test_a_preload_moves_nothing_else_off_the_device(renderer_with, shelf):
    renderer = renderer_with(vram_bytes=150)
    await renderer.render(ask("a"), quiet())
    await renderer.preload(ModelRef(source="b"))
    assert tiers(shelf, "a") == {WeightTier.VRAM}
    assert renderer.holdings().vram_bytes <= 150


async def preloads_b_while_a_renders(renderer, shelf):
    """Return what ends with both, once the preload is known to wait."""
    shelf.pipeline("a").gate.clear()
    rendering = asyncio.ensure_future(renderer.render(ask("a", seed=2), quiet()))
    await until_it_renders(renderer)
    preloading = asyncio.ensure_future(renderer.preload(ModelRef(source="b")))
    await until(lambda: renderer.holdings().waiting == ("b",))
    return asyncio.gather(rendering, preloading)


async def test_a_preload_that_waits_for_a_render_is_named_until_its_turn_has_come(renderer_with, shelf):
    renderer = renderer_with(max_models=1)
    await renderer.render(ask("a"), quiet())
    going_on = await preloads_b_while_a_renders(renderer, shelf)
    assert shelf.opened == ["a"]

    shelf.pipeline("a").gate.set()
    await going_on
    assert renderer.holdings().waiting == ()
    assert tiers(shelf, "b") == {WeightTier.VRAM}


async def test_weights_in_ram_that_wait_for_the_end_of_a_stage_are_named_too(renderer, shelf):
    await renderer.render(ask("b"), quiet())
    await renderer.park_all()
    await renderer.render(ask("a"), quiet())
    going_on = await preloads_b_while_a_renders(renderer, shelf)

    shelf.pipeline("a").gate.set()
    await going_on
    assert renderer.holdings().waiting == ()


async def test_a_preload_that_is_being_read_waits_for_nothing(renderer, shelf):
    shelf.gates["b"] = threading.Event()
    preloading = asyncio.ensure_future(renderer.preload(ModelRef(source="b")))
    await until(lambda: shelf.opened == ["b"])

    assert (renderer.holdings().loading, renderer.holdings().waiting) == ("b", ())

    shelf.gates["b"].set()
    await preloading


async def test_a_preload_that_fails_says_why(renderer, shelf):
    shelf.failures["a"] = [ValueError("torn")]
    with pytest.raises(ModelError, match="torn"):
        await renderer.preload(ModelRef(source="a"))


async def test_unloading_lets_go_and_says_whether_there_was_anything(renderer, shelf):
    await renderer.render(ask(), quiet())
    assert await renderer.unload(ModelRef(source="a")) is True
    assert shelf.unclosed() == 0
    assert await renderer.unload(ModelRef(source="a")) is False
    await renderer.render(ask(), quiet())
    assert shelf.opened == ["a", "a"]


async def test_unloading_during_a_render_waits_for_it(renderer, shelf):
    await renderer.render(ask(), quiet())
    pipeline = shelf.pipeline("a")
    pipeline.gate.clear()
    rendering = asyncio.ensure_future(renderer.render(ask(seed=2), quiet()))
    await until_it_renders(renderer)
    unloading = asyncio.ensure_future(renderer.unload(ModelRef(source="a")))
    await asyncio.sleep(0.05)
    assert not unloading.done()
    assert not pipeline.closed
    pipeline.gate.set()
    assert (await rendering).content
    assert await unloading is True
    assert pipeline.closed


async def test_another_model_is_unloaded_between_two_stages_of_a_render(renderer, shelf):
    await renderer.render(ask("b"), quiet())
    await renderer.render(ask("a"), quiet())
    pipeline, turns = shelf.pipeline("a"), threading.Semaphore(0)

    def one_stage(watcher):
        turns.acquire(timeout=30)

    pipeline.wait = one_stage
    rendering = asyncio.ensure_future(renderer.render(ask("a", seed=2), quiet()))
    await until_it_renders(renderer)
    unloading = asyncio.ensure_future(renderer.unload(ModelRef(source="b")))
    await asyncio.sleep(0.02)
    assert not unloading.done()
    turns.release()
    assert await unloading is True
    assert not rendering.done()
    turns.release(2)
    await rendering


async def test_unloading_what_is_being_read_waits_for_it_and_then_lets_go(renderer, shelf):
    gate = shelf.gates["a"] = threading.Event()
    preloading = asyncio.ensure_future(renderer.preload(ModelRef(source="a")))
    await until(lambda: shelf.opened)
    unloading = asyncio.ensure_future(renderer.unload(ModelRef(source="a")))
    await asyncio.sleep(0.02)
    gate.set()
    await unloading
    preloading.cancel()
    await asyncio.wait([preloading])
    await renderer.unload_all()
    assert shelf.unclosed() == 0


async def test_everything_can_be_unloaded_at_once(renderer, shelf):
    for source in "abc":
        await renderer.render(ask(source), quiet())
    assert await renderer.unload_all() == 3
    assert renderer.holdings().models == ()
    assert shelf.device.used == 0


async def test_parking_all_keeps_it_in_ram_and_nothing_is_read_again(renderer, shelf):
    await renderer.render(ask(), quiet())
    await renderer.park_all()
    assert tiers(shelf) == {WeightTier.RAM}
    assert shelf.device.used == 0
    await renderer.render(ask(seed=2), quiet())
    assert shelf.opened == ["a"]


async def test_parking_all_waits_for_what_renders_and_parks_that_too(renderer, shelf):
    for source in "ba":
        await renderer.render(ask(source), quiet())
    pipeline = shelf.pipeline("a")
    pipeline.gate.clear()
    rendering = asyncio.ensure_future(renderer.render(ask("a", seed=2), quiet()))
    await until_it_renders(renderer)
    parking = asyncio.ensure_future(renderer.park_all())
    await asyncio.sleep(0.02)
    assert not parking.done()
    pipeline.gate.set()
    await parking
    assert shelf.device.used == 0
    await rendering


# What hosts ask back


async def test_giving_back_parks_no_more_than_was_asked_for(renderer, shelf):
    await renderer.render(ask(), quiet())
    assert await renderer.give_back(50) == 60
    assert await renderer.give_back(1000) == 41
    assert await renderer.give_back(1000) == 0


async def test_a_host_may_ask_back_while_we_ask_it_for_room(renderer_with, shelf):
    """The host's manager frees memory by asking everybody, us too, on the thread that asked it."""
    answers = []

    def make_room(wanted, device):
        answers.append(renderer.give_back_blocking(10**9, patience=30))
        return 0

    renderer = renderer_with(make_room=make_room)
    await renderer.render(ask("a"), quiet())
    await renderer.render(ask("b"), quiet())
    assert max(answers) > 0
    assert renderer.holdings().vram_bytes == shelf.device.used


async def test_a_hosts_thread_gets_an_answer_though_a_render_hangs(renderer, shelf):
    await renderer.render(ask(), quiet())
    pipeline = shelf.pipeline("a")
    pipeline.gate.clear()
    rendering = asyncio.ensure_future(renderer.render(ask(seed=2), quiet()))
    await until_it_renders(renderer)
    assert await asyncio.to_thread(renderer.give_back_blocking, 10**9, 0.05) == 0
    pipeline.gate.set()
    await rendering
    await until(lambda: shelf.device.used == 0)


async def test_a_hosts_lock_that_both_sides_want_is_no_deadlock(renderer_with, shelf):
    lock, answers = threading.Lock(), []

    def make_room(wanted, device):
        with lock:
            return 0

    renderer = renderer_with(make_room=make_room)
    await renderer.render(ask("a"), quiet())

    def host():
        with lock:
            answers.append(renderer.give_back_blocking(10**9, patience=0.1))

    await asyncio.gather(asyncio.to_thread(host), renderer.render(ask("b"), quiet()), asyncio.to_thread(host))
    assert len(answers) == 2


async def test_what_a_render_is_about_to_use_is_parked_after_it(renderer, shelf):
    await renderer.render(ask("a"), quiet())
    pipeline = shelf.pipeline("a")
    pipeline.gate.clear()
    rendering = asyncio.ensure_future(renderer.render(ask(seed=2), quiet()))
    await until_it_renders(renderer)
    giving = asyncio.ensure_future(renderer.give_back(10**9))
    await asyncio.sleep(0)
    pipeline.gate.set()
    await asyncio.gather(rendering, giving)
    await until(lambda: shelf.device.used == 0)
    moved = [part for part, tier in pipeline.moves if tier is WeightTier.VRAM]
    assert moved == ["text_encoder", "transformer", "vae"], "none was brought back in vain"


# The end


async def test_closing_sends_everybody_home_and_lets_go_of_all(renderer, shelf):
    others = set(threading.enumerate())
    await renderer.render(ask(), quiet())
    shelf.pipeline("a").gate.clear()
    running = asyncio.ensure_future(renderer.render(ask(seed=2), quiet()))
    await until_it_renders(renderer)
    waiting = asyncio.ensure_future(renderer.render(ask(seed=3), quiet()))
    await asyncio.sleep(0)
    await renderer.close()
    await renderer.close()
    with pytest.raises(GenerationStoppedError):
        await running
    with pytest.raises(EngineClosedError):
        await waiting
    with pytest.raises(EngineClosedError):
        await renderer.render(ask(), quiet())
    assert shelf.unclosed() == 0
    assert await renderer.give_back(10) == 0
    assert renderer.give_back_blocking(10) == 0
    assert await renderer.unload_all() == 0
    assert "zit-gpu" not in {thread.name for thread in set(threading.enumerate()) - others}


async def test_closing_during_a_load_waits_for_nothing_and_leaks_nothing(renderer, shelf):
    gate = shelf.gates["a"] = threading.Event()
    waiting = asyncio.ensure_future(renderer.render(ask(), quiet()))
    await until(lambda: shelf.opened)
    await renderer.close()
    with pytest.raises(EngineClosedError):
        await waiting
    gate.set()
    await until(lambda: shelf.refs and shelf.unclosed() == 0)


async def test_closing_leaves_a_render_behind_that_does_not_end(renderer, shelf):
    await renderer.render(ask(), quiet())
    pipeline, end = shelf.pipeline("a"), threading.Event()
    pipeline.wait = lambda watcher: end.wait(30)
    stuck = asyncio.ensure_future(renderer.render(ask(seed=2), quiet()))
    await until_it_renders(renderer)
    await renderer.close(patience=0.05)
    end.set()
    await asyncio.wait([stuck])


async def test_a_renderer_that_never_rendered_closes_too(renderer):
    await renderer.close()


async def test_after_unloading_nothing_keeps_the_weights_alive(renderer, shelf, caplog):
    """Not the errors that callers keep, nor futures, threads and logs."""
    kept = []
    caplog.set_level(logging.DEBUG)
    await renderer.render(ask(), quiet())
    pipeline = weakref.ref(shelf.pipeline("a"))
    pipeline().failures += [ValueError("one"), MemoryError(), MemoryError(), KeyboardInterrupt()]
    for _ in range(3):
        try:
            await renderer.render(ask(), quiet())
        except Exception as error:
            kept.append(error)
    task = asyncio.ensure_future(renderer.render(ask(seed=3), quiet()))
    await asyncio.wait([task])
    await renderer.unload_all()
    assert len(kept) == 3
    gc.collect()
    assert pipeline() is None
    assert shelf.alive() == 0


async def test_without_a_garbage_collection_the_weights_are_gone_as_well(renderer, shelf):
    gc.collect()
    gc.disable()
    try:
        await renderer.render(ask(), quiet())
        await renderer.unload_all()
        assert shelf.alive() == 0, "a reference cycle keeps them"
    finally:
        gc.enable()
