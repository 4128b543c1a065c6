"""The engine and the files and machines that renders depend on: what changed is a miss."""

import asyncio
import types

import pytest

from tests.test_engine import warm
from zit_ext import CacheMode, ModelRef, Outcome
from zit_ext.errors import ModelError, RequestError
from zit_ext.testing import make_request


async def test_replaced_weights_are_a_miss(in_engine, files):
    async def story(engine):
        await warm(engine)
        files.replace("zit", "other bytes")
        return await engine.generate(make_request())

    assert (await in_engine(story)).status.outcome is Outcome.MISS


async def test_the_same_weights_at_another_path_are_a_hit(in_engine, files):
    async def story(engine):
        await warm(engine)
        files.replace("copy", "zit")
        return await engine.generate(make_request(model=ModelRef(source="copy"), comment="moved"))

    assert (await in_engine(story)).status.outcome is Outcome.HIT


async def test_weights_that_change_during_the_render_are_not_kept(in_engine, files, pipeline):
    async def story(engine):
        await warm(engine, seed=1)
        pipeline.gate.clear()
        asked = asyncio.create_task(engine.generate(make_request()))
        await asyncio.sleep(0.1)
        files.replace("zit", "other bytes")
        pipeline.gate.set()
        return await asked

    status = (await in_engine(story)).status
    assert not status.stored
    assert "changed meanwhile" in status.detail


async def test_weights_nobody_hashed_hold_nothing_up_and_are_kept_afterwards(in_engine, files, pipeline):
    files.unhashed.add("zit")

    async def story(engine):
        first = await engine.generate(make_request())
        assert pipeline.rendered, "the render waited for the hash"
        files.hashed.set()
        return first

    first = await in_engine(story)
    assert (first.status.key, first.status.stored) == (None, True)
    files.unhashed.clear()
    again = await in_engine(lambda engine: engine.generate(make_request()))
    assert again.status.outcome is Outcome.HIT
    assert again.digest == first.digest


async def test_another_environment_is_a_miss_and_its_result_is_kept_under_its_own_name(in_engine, pipeline):
    first = await in_engine(warm)
    pipeline.environment = {"device": "fake", "versions": {"fake": "2"}}
    refreshed = await in_engine(lambda engine: warm(engine, cache=CacheMode.REFRESH))
    assert first.status.key != refreshed.status.key
    assert (await in_engine(warm)).status.key == refreshed.status.key


async def test_portable_consistency_leaves_the_environment_out(in_engine, pipeline):
    first = await in_engine(warm, consistency="portable")
    pipeline.environment = {"device": "another"}
    again = await in_engine(warm, consistency="portable")
    assert (again.status.outcome, again.status.key) == (Outcome.HIT, first.status.key)


async def test_an_unfaithful_render_is_answered_and_not_kept(in_engine, pipeline):
    faithful = pipeline.render
    pipeline.render = lambda *given: types.SimpleNamespace(
        **{
            **{
                name: getattr(faithful(*given), name)
                for name in ("content", "seconds", "environment", "warnings")
            },
            "faithful": False,
        }
    )

    async def story(engine):
        result = await warm(engine)
        return result, engine.store.usage().entries

    result, entries = await in_engine(story)
    assert (result.status.stored, entries) == (False, 0)


@pytest.mark.parametrize(
    "error",
    [
        RequestError("loras[0]", "ink", "there is no such LoRA"),
        ModelError("a disk that fails"),
        OSError("a disk that fails"),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_weights_that_are_gone_after_the_render_cost_no_picture(in_engine, files, pipeline, error):
    async def story(engine):
        await warm(engine, seed=1)
        pipeline.started.clear()
        pipeline.gate.clear()
        asked = asyncio.create_task(engine.generate(make_request()))
        await asyncio.to_thread(pipeline.started.wait)

        def gone(request):
            raise error

        files.resolve = gone
        pipeline.gate.set()
        return await asked

    answer = await in_engine(story)
    assert answer.status.outcome is Outcome.MISS
    assert not answer.status.stored
    assert "not kept" in answer.status.detail
