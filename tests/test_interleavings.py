"""Stories in which two things happen at the wrong moment: nobody is answered for what another one did."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest

from zit_ext import ModelRef, Outcome, Pixels, hookimpl
from zit_ext.errors import EngineClosedError, GenerationStoppedError, ZitError
from zit_ext.pipeline import Rendered
from zit_ext.records import InputImage
from zit_ext.results.claims import Busy
from zit_ext.testing import QuietWatcher, fake_content, make_request
from zit_ext.watching import Audience


async def until(condition):
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within 30 seconds")


class StopsWhenSomebodyElseHasCome:
    """A watcher that wants to stop, and says so at the moment at which another one joins its render."""

    def __init__(self, join) -> None:
        self._join = join
        self._asked = False

    def step(self, done, total):
        pass

    def preview(self, png):
        pass

    def wants_stop(self):
        if not self._asked:
            self._asked = True
            self._join()
        return True


async def test_who_joins_a_render_that_is_being_stopped_gets_a_picture_all_the_same(in_engine, pipeline):
    async def story(engine):
        loop, joined, late = asyncio.get_running_loop(), threading.Event(), []

        async def come():
            late.append(asyncio.ensure_future(engine.generate(make_request())))
            for _ in range(20):
                await asyncio.sleep(0.01)
            joined.set()

        def join():
            asyncio.run_coroutine_threadsafe(come(), loop)
            assert joined.wait(30)

        pipeline.gate.clear()
        first = asyncio.ensure_future(engine.generate(make_request(), StopsWhenSomebodyElseHasCome(join)))
        with pytest.raises(GenerationStoppedError):
            await first
        pipeline.gate.set()
        return await late[0]

    result = await in_engine(story)
    assert (result.status.outcome, result.status.stored) == (Outcome.MISS, True)


async def test_what_a_caller_changes_in_its_own_request_while_it_renders_changes_nothing(in_engine, pipeline):
    async def story(engine):
        await engine.generate(make_request(seed=1))
        levels = [1]
        request = make_request(extra={"host.levels": levels})
        pipeline.gate.clear()
        pipeline.started.clear()
        asked = asyncio.ensure_future(engine.generate(request))
        await until(pipeline.started.is_set)
        levels[0] = 2
        pipeline.gate.set()
        await asked
        return (
            await engine.generate(make_request(extra={"host.levels": [1]})),
            await engine.generate(make_request(extra={"host.levels": [2]})),
        )

    one, two = await in_engine(story)
    assert (one.status.outcome, two.status.outcome) == (Outcome.HIT, Outcome.MISS)
    seen = [request.extra["host.levels"] for request in pipeline.rendered[1:]]
    assert seen == [[1], [2]]


async def test_a_wish_to_stop_that_fails_costs_nobody_the_picture(in_engine, pipeline):
    class Broken(QuietWatcher):
        def wants_stop(self):
            raise ZeroDivisionError

    result = await in_engine(lambda engine: engine.generate(make_request(), Broken()))
    assert result.status.outcome is Outcome.MISS


async def test_an_engine_that_is_closed_in_mid_flight_answers_everybody(in_engine, pipeline):
    async def story(engine):
        await engine.generate(make_request(seed=1))
        pipeline.gate.clear()
        pipeline.started.clear()
        asked = [asyncio.ensure_future(engine.generate(make_request(seed=seed))) for seed in (2, 2, 3)]
        await until(pipeline.started.is_set)
        closing = asyncio.ensure_future(engine.close(patience=5.0))
        await asyncio.sleep(0.1)
        pipeline.gate.set()
        await closing
        done, pending = await asyncio.wait(asked, timeout=10)
        assert not pending
        return [each.exception() for each in done]

    for error in await in_engine(story):
        assert error is None or isinstance(error, ZitError), repr(error)


@pytest.mark.parametrize("way", ["the host wants to stop", "the engine is closed"])
async def test_who_waits_for_another_process_is_let_go(in_engine, way):
    async def story(engine):
        await engine.generate(make_request(seed=1))
        asked_for_it = asyncio.Event()
        loop = asyncio.get_running_loop()

        def another_one_is_at_it(known):
            loop.call_soon_threadsafe(asked_for_it.set)
            return Busy(known.key, until=2e9)

        engine.store.try_claim = another_one_is_at_it
        watcher = QuietWatcher()
        asked = asyncio.ensure_future(engine.generate(make_request(), watcher))
        await asked_for_it.wait()
        if way == "the engine is closed":
            await engine.close()
        else:
            watcher.stop.set()
        await asked

    error = EngineClosedError if way == "the engine is closed" else GenerationStoppedError
    with pytest.raises(error):
        await asyncio.wait_for(in_engine(story), 30)


async def test_what_is_shared_saves_a_render(in_engine, pipeline):
    async def story(engine):
        pipeline.seconds = 7.0
        pipeline.gate.clear()
        asked = [asyncio.ensure_future(engine.generate(make_request())) for _ in range(3)]
        await until(pipeline.started.is_set)
        await asyncio.sleep(0.05)
        pipeline.gate.set()
        return await asyncio.gather(*asked)

    results = await in_engine(story)
    assert sorted(result.saved_seconds for result in results) == [0.0, 7.0, 7.0]


async def test_an_answer_of_another_kind_than_was_asked_for_is_not_kept(in_engine, pipeline, plugins):
    class Watermark:
        touches = ("image/png",)
        text = "mine"

        @hookimpl
        def zit_fingerprint_fields(self):
            return {"text": self.text}

    plugins.register(Watermark(), "watermark")
    pipeline.render = lambda request, lease, watcher: Rendered(
        Pixels(4, 4, 3, bytes(48)), 1.0, pipeline.environment
    )

    async def story(engine):
        return [await engine.generate(make_request(media_type="image/webp")) for _ in range(2)]

    for result in await in_engine(story):
        assert (result.status.outcome, result.status.stored) == (Outcome.MISS, False)
        assert "image/webp" in result.status.detail


async def test_one_file_in_two_roles_is_two_models_while_nobody_has_hashed_it(in_engine, pipeline, files):
    both = ModelRef(source="shared")
    as_encoder = make_request(model=ModelRef(source="zit", text_encoder=both))
    as_vae = make_request(model=ModelRef(source="zit", vae=both))
    files.unhashed |= {"zit", "shared"}

    async def pending(engine):
        await asyncio.gather(engine.generate(as_encoder), engine.generate(as_vae))
        files.hashed.set()

    async def known(engine):
        return await engine.generate(as_encoder), await engine.generate(as_vae)

    await in_engine(pending)
    expected = {each.model.vae is None: fake_content(each) for each in pipeline.rendered}
    files.unhashed.clear()
    one, other = await in_engine(known)
    assert (one.status.outcome, other.status.outcome) == (Outcome.HIT, Outcome.HIT)
    assert (one.pixels(), other.pixels()) == (expected[True], expected[False])


async def test_two_ways_to_use_one_model_do_not_forget_each_other(in_engine, pipeline):
    render = pipeline.render
    pipeline.render = lambda request, *given: replace(
        render(request, *given), environment={"device": "fake", "dtype": request.model.dtype}
    )

    async def story(engine):
        asked = [
            make_request(model=ModelRef(source="zit", dtype=dtype)) for dtype in ("bfloat16", "float32") * 2
        ]
        return [(await engine.generate(each)).status.outcome for each in asked]

    assert await in_engine(story) == [Outcome.MISS, Outcome.MISS, Outcome.HIT, Outcome.HIT]


def test_a_picture_to_start_from_is_what_its_digest_says():
    with pytest.raises(ValueError, match=r"InputImage\.of"):
        InputImage(digest=InputImage.of(b"one").digest, data=b"other")


def test_a_picture_to_start_from_does_not_change_with_the_buffer_that_it_came_in():
    buffer = bytearray(b"one")
    image = InputImage.of(buffer)
    buffer[:] = b"two"
    assert (image.data, image) == (b"one", InputImage.of(b"one"))


def test_who_leaves_a_seat_leaves_nobody_elses_even_if_the_two_are_alike():
    class Alike(QuietWatcher):
        def __eq__(self, other):
            return True

        __hash__ = None

    first, second = Alike(), Alike()
    audience = Audience()
    with audience.seat(first):
        with audience.seat(second):
            pass
        audience.step(1, 2)
        assert (first.steps, second.steps) == ([(1, 2)], [])
