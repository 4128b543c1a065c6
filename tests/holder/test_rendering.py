"""One device, and requests for its models: loads, errors, people who leave."""

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from tests.holder.shelf import ask, quiet, until, until_it_renders
from zit_ext.errors import GenerationStoppedError, ModelError, QueueFullError
from zit_ext.records import FileRef, LoraRef, ModelRef
from zit_ext.renderers.prefetch import Prefetcher
from zit_ext.testing import fake_content, make_request


async def test_a_request_is_answered_by_its_model(renderer):
    rendered = await renderer.render(ask(), quiet())
    assert rendered.content == fake_content(ask())


async def test_one_load_however_many_ask(renderer, shelf):
    await asyncio.gather(*(renderer.render(ask(seed=seed), quiet()) for seed in range(20)))
    assert shelf.opened == ["a"]
    assert renderer.holdings().loads == 1
    assert renderer.holdings().renders == 20


async def test_other_weights_are_another_load_and_loras_are_none(renderer, shelf):
    usual = ModelRef(source="a", identity="1")
    await renderer.render(make_request(model=usual), quiet())
    await renderer.render(make_request(model=usual, loras=(LoraRef(source="l"),)), quiet())
    assert len(shelf.opened) == 1
    replaced = ModelRef(source="a", identity="1", vae=FileRef(source="v"))
    await renderer.render(make_request(model=replaced), quiet())
    assert len(shelf.opened) == 2


async def test_files_that_changed_are_read_anew_and_the_old_weights_go(renderer, shelf):
    for identity in ("1", "2"):
        model = ModelRef(source="a", path=Path("a"), identity=identity)
        await renderer.render(make_request(model=model), quiet())
    assert shelf.opened == ["a", "a"]
    assert len(renderer.holdings().models) == 1
    assert shelf.unclosed() == 1


async def test_a_failed_load_gives_its_error_to_all_who_wait_and_the_next_ask_tries_again(renderer, shelf):
    shelf.failures["a"] = [ValueError("the header is torn")]
    failed = await asyncio.gather(
        *(renderer.render(ask(seed=seed), quiet()) for seed in range(3)), return_exceptions=True
    )
    assert {type(error) for error in failed} == {ModelError}
    assert all("ValueError: the header is torn" in str(error) for error in failed)
    assert isinstance(failed[0].__cause__, ValueError)
    await renderer.render(ask(), quiet())
    assert shelf.opened == ["a", "a"]


async def test_an_error_of_ours_is_passed_on_as_it_is(renderer, shelf):
    own = ModelError("the tokenizer has no chat template")
    shelf.failures["a"] = [own]
    with pytest.raises(ModelError) as caught:
        await renderer.render(ask(), quiet())
    assert caught.value is own


async def test_a_hung_load_fails_its_waiters_and_the_next_ask_works(renderer_with, shelf):
    renderer = renderer_with(load_timeout=0.1)
    gate = shelf.gates["a"] = threading.Event()
    waiting = [asyncio.ensure_future(renderer.render(ask(seed=seed), quiet())) for seed in range(3)]
    failed = await asyncio.gather(*waiting, return_exceptions=True)
    assert all("took longer than 0.1 seconds" in str(error) for error in failed)
    del shelf.gates["a"]
    await renderer.render(ask(), quiet())
    gate.set()
    # What came too late is let go, and does not stay beside the one that is used.
    await until(lambda: len(shelf.refs) == 2 and shelf.unclosed() == 1)
    assert renderer.holdings().loads == 1


async def test_a_hung_load_does_not_hold_up_the_model_that_is_there(renderer, shelf):
    await renderer.render(ask("a"), quiet())
    gate = shelf.gates["b"] = threading.Event()
    hung = asyncio.ensure_future(renderer.render(ask("b"), quiet()))
    await until(lambda: renderer.holdings().loading == "b")
    for seed in range(3):
        await renderer.render(ask("a", seed=seed), quiet())
    assert not hung.done()
    gate.set()
    await hung


async def test_the_next_model_is_read_while_another_renders(renderer, shelf):
    await renderer.render(ask("a"), quiet())
    first = shelf.pipeline("a")
    first.gate.clear()
    rendering = asyncio.ensure_future(renderer.render(ask("a"), quiet()))
    await until_it_renders(renderer)
    next_one = asyncio.ensure_future(renderer.render(ask("b"), quiet()))
    await until(lambda: shelf.opened == ["a", "b"])
    assert not rendering.done()
    first.gate.set()
    await asyncio.gather(rendering, next_one)


async def test_a_load_that_nobody_waits_for_holds_up_no_other(renderer, shelf):
    gate = shelf.gates["a"] = threading.Event()
    left = asyncio.ensure_future(renderer.render(ask("a"), quiet()))
    await until(lambda: shelf.opened)
    left.cancel()
    await asyncio.wait([left])
    await asyncio.wait_for(renderer.render(ask("b"), quiet()), 20)
    assert shelf.given_up == []
    gate.set()
    await until(lambda: len(shelf.refs) == 2 and shelf.unclosed() == 1)
    assert shelf.given_up == ["a"], "the load heard that it is not wanted"
    assert [model.source for model in renderer.holdings().models] == ["b"]


async def test_who_asks_again_for_weights_whose_load_was_given_up_gets_them(renderer, shelf):
    gate = shelf.gates["a"] = threading.Event()
    left = asyncio.ensure_future(renderer.render(ask("a"), quiet()))
    await until(lambda: shelf.opened)
    left.cancel()
    others = [asyncio.ensure_future(renderer.render(ask(source), quiet())) for source in "ba"]
    await asyncio.sleep(0.05)
    gate.set()
    for other in others:
        assert (await other).content
    await until(lambda: shelf.unclosed() == 2)


async def test_a_load_that_hangs_can_be_cancelled(renderer, shelf):
    gate = shelf.gates["a"] = threading.Event()
    left = asyncio.ensure_future(renderer.render(ask("a"), quiet()))
    await until(lambda: shelf.opened)
    left.cancel()
    await asyncio.wait([left])
    await asyncio.wait_for(renderer.unload(ModelRef(source="a")), 20)
    assert renderer.holdings().loading is None
    gate.set()
    await until(lambda: shelf.refs and shelf.unclosed() == 0)


@pytest.mark.parametrize("asked_for", ["a picture", "a preload"])
async def test_while_another_renders_the_files_of_the_next_model_are_read_ahead(
    renderer_with, shelf, tmp_path, caplog, asked_for
):
    """Its load would close what renders, so only the system's page cache can be made ready."""
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "b.safetensors"
    path.write_bytes(bytes(40_000_000))
    renderer = renderer_with(max_models=1)
    await renderer.render(ask("a"), quiet())
    shelf.pipeline("a").gate.clear()
    rendering = asyncio.ensure_future(renderer.render(ask("a", seed=2), quiet()))
    await until_it_renders(renderer)
    model = ModelRef(source="b", path=path, identity="1")
    if asked_for == "a preload":
        following = asyncio.ensure_future(renderer.preload(model))
    else:
        following = asyncio.ensure_future(renderer.render(make_request(model=model), quiet()))
    await until(lambda: "read 40000000 bytes of 'b' ahead" in caplog.text)
    assert shelf.opened == ["a"]
    shelf.pipeline("a").gate.set()
    await asyncio.gather(rendering, following)
    assert caplog.text.count("ahead") == 1


async def test_files_are_read_ahead_only_into_memory_that_nobody_uses(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "b.safetensors"
    path.write_bytes(bytes(5000))
    prefetcher = Prefetcher(free_ram=lambda: 9000)
    prefetcher.begin(ModelRef(source="b", path=path))
    await until(lambda: "read 0 bytes of 'b' ahead" in caplog.text)
    prefetcher.begin(ModelRef(source="gone", path=tmp_path / "gone"))
    await until(lambda: "of 'gone' ahead" in caplog.text)
    prefetcher.close()


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (KeyError("scale"), ModelError),
        (StopIteration(), ModelError),
        (KeyboardInterrupt(), GenerationStoppedError),
        (asyncio.CancelledError(), GenerationStoppedError),
        (SystemExit(1), GenerationStoppedError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
async def test_whatever_a_pipeline_raises_costs_this_request_and_nothing_else(
    renderer, shelf, raised, becomes
):
    shelf.prepare = lambda pipeline: pipeline.failures.append(raised)
    with pytest.raises(becomes) as caught:
        await renderer.render(ask(), quiet())
    assert caught.value.__cause__ is raised
    await renderer.render(ask(), quiet())
    assert len(shelf.opened) == 1


async def test_a_watcher_stops_the_render(renderer, shelf):
    await renderer.render(ask(), quiet())
    shelf.pipeline("a").gate.clear()
    watcher = quiet()
    rendering = asyncio.ensure_future(renderer.render(ask(), watcher))
    await until_it_renders(renderer)
    watcher.stop.set()
    with pytest.raises(GenerationStoppedError):
        await rendering
    shelf.pipeline("a").gate.set()
    await renderer.render(ask(), quiet())


async def test_cancelling_a_running_request_ends_its_render_and_waits_for_that(renderer, shelf):
    await renderer.render(ask(), quiet())
    pipeline = shelf.pipeline("a")
    pipeline.gate.clear()
    rendering = asyncio.ensure_future(renderer.render(ask(), quiet()))
    await until_it_renders(renderer)
    rendering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rendering
    assert len(pipeline.rendered) == 1
    pipeline.gate.set()
    await renderer.render(ask(), quiet())


async def test_cancelling_a_waiting_request_frees_its_place_at_once(renderer_with, shelf):
    renderer = renderer_with(queue_limit=1)
    await renderer.render(ask(), quiet())
    pipeline = shelf.pipeline("a")
    pipeline.gate.clear()
    running = asyncio.ensure_future(renderer.render(ask(), quiet()))
    await until_it_renders(renderer)
    waiting = asyncio.ensure_future(renderer.render(ask(seed=2), quiet()))
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError) as refused:
        await renderer.render(ask(seed=3), quiet())
    assert refused.value.limit == 1
    assert refused.value.retry_after >= 1
    waiting.cancel()
    await asyncio.wait([waiting])
    last = asyncio.ensure_future(renderer.render(ask(seed=4), quiet()))
    await asyncio.sleep(0)
    pipeline.gate.set()
    await asyncio.gather(running, last)
    assert [request.seed for request in pipeline.rendered] == [7, 7, 4]


async def test_weights_are_not_read_for_somebody_who_left(renderer, shelf):
    gate = shelf.gates["a"] = threading.Event()
    first = asyncio.ensure_future(renderer.render(ask("a"), quiet()))
    await until(lambda: shelf.opened)
    left = asyncio.ensure_future(renderer.render(ask("b"), quiet()))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    gate.set()
    await first
    assert shelf.opened == ["a"]


async def test_leaving_during_a_load_is_at_once_and_the_weights_are_there_for_the_next(renderer, shelf):
    gate = shelf.gates["a"] = threading.Event()
    left = asyncio.ensure_future(renderer.render(ask(), quiet()))
    await until(lambda: shelf.opened)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    gate.set()
    await renderer.render(ask(), quiet())
    assert shelf.opened == ["a"]


async def test_alternating_requests_do_not_thrash_and_nobody_starves(renderer_with, shelf):
    renderer = renderer_with(max_models=1)
    await renderer.render(ask("a"), quiet())
    requests = [ask("ab"[number % 2], seed=number) for number in range(40)]
    await asyncio.gather(*(renderer.render(request, quiet()) for request in requests))
    # In order of arrival it would be 40 loads; a group of each is two or three, bounded for fairness.
    assert len(shelf.opened) <= 8
    assert renderer.holdings().renders == 41


async def test_a_person_renders_before_a_batch(renderer, shelf):
    await renderer.render(ask(), quiet())
    pipeline = shelf.pipeline("a")
    pipeline.gate.clear()
    asking = [asyncio.ensure_future(renderer.render(ask(seed=0), quiet()))]
    await until_it_renders(renderer)
    for seed, priority in ((1, -1), (2, -1), (3, 0)):
        asking.append(asyncio.ensure_future(renderer.render(ask(seed=seed, priority=priority), quiet())))
    await asyncio.sleep(0)
    pipeline.gate.set()
    await asyncio.gather(*asking)
    assert [request.seed for request in pipeline.rendered[1:]] == [0, 3, 1, 2]
