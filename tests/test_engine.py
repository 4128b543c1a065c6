"""Each test tells one story of a request through the engine, with a real store on a real disk."""

import asyncio
import types

import pytest

from zit_ext import CacheMode, LoraRef, Outcome, ResultTier, hookimpl, hookspecs
from zit_ext.errors import EngineClosedError, GenerationStoppedError, NotCachedError, RequestError
from zit_ext.testing import QuietWatcher, make_request


async def warm(engine, **changes):
    """Render once, so that environment and digests are known, and the answer is on the disk."""
    result = await engine.generate(make_request(**changes))
    engine.store.flush()
    return result


async def test_the_second_time_is_a_hit_with_the_same_pixels(in_engine, pipeline):
    async def story(engine):
        return await warm(engine), await engine.generate(make_request())

    first, second = await in_engine(story)
    assert (first.status.outcome, second.status.outcome) == (Outcome.MISS, Outcome.HIT)
    assert first.status.key == second.status.key
    assert first.pixels() == second.pixels()
    assert first.digest == second.digest
    assert len(pipeline.rendered) == 1
    assert second.saved_seconds == 1.0  # what the fake render says it cost


async def test_an_entry_outlives_the_engine(in_engine, pipeline):
    await in_engine(warm)
    again = await in_engine(lambda engine: engine.generate(make_request()))
    assert again.status.outcome is Outcome.HIT
    assert again.status.tier is ResultTier.DISK
    assert len(pipeline.rendered) == 1


async def test_a_hit_may_come_before_the_blob_is_written(in_engine, pipeline):
    async def story(engine):
        await engine.generate(make_request())
        return await engine.generate(make_request())

    assert (await in_engine(story)).status.outcome is Outcome.HIT


async def test_requests_at_the_same_time_share_one_render(in_engine, pipeline):
    async def story(engine):
        await warm(engine, seed=1)
        pipeline.gate.clear()
        waiting = [asyncio.create_task(engine.generate(make_request())) for _ in range(100)]
        await asyncio.sleep(0.1)
        pipeline.gate.set()
        return await asyncio.gather(*waiting), engine.metrics.snapshot()

    results, counted = await in_engine(story)
    assert len(pipeline.rendered) == 2
    assert sum(not result.status.collapsed for result in results) == 1
    assert counted.collapsed == 99
    assert len({result.digest for result in results}) == 1


async def test_requests_share_one_render_before_anything_is_known_of_the_weights(in_engine, pipeline, files):
    files.unhashed.add("zit")

    async def story(engine):
        pipeline.gate.clear()
        waiting = [asyncio.create_task(engine.generate(make_request())) for _ in range(5)]
        await asyncio.sleep(0.1)
        pipeline.gate.set()
        files.hashed.set()
        return await asyncio.gather(*waiting)

    await in_engine(story)
    assert len(pipeline.rendered) == 1


async def test_a_cancelled_waiter_does_not_stop_the_others(in_engine, pipeline):
    async def story(engine):
        pipeline.gate.clear()
        impatient, patient = (asyncio.create_task(engine.generate(make_request())) for _ in range(2))
        await asyncio.sleep(0.1)
        impatient.cancel()
        await asyncio.sleep(0.05)
        pipeline.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        return await patient

    assert (await in_engine(story)).digest


async def test_the_last_waiter_to_leave_stops_the_render(in_engine, pipeline):
    async def story(engine):
        pipeline.gate.clear()
        only = asyncio.create_task(engine.generate(make_request()))
        await asyncio.sleep(0.1)
        only.cancel()
        with pytest.raises(asyncio.CancelledError):
            await only
        pipeline.gate.set()
        return await engine.generate(make_request())

    assert (await in_engine(story)).status.outcome is Outcome.MISS
    assert len(pipeline.rendered) == 1


async def test_a_host_that_interrupts_stops_the_render_and_nothing_is_kept(in_engine, pipeline):
    async def story(engine):
        pipeline.gate.clear()
        watcher = QuietWatcher()
        asked = asyncio.create_task(engine.generate(make_request(), watcher))
        await asyncio.sleep(0.1)
        watcher.stop.set()
        with pytest.raises(GenerationStoppedError):
            await asked
        pipeline.gate.set()
        return await engine.generate(make_request())

    assert (await in_engine(story)).status.outcome is Outcome.MISS


async def test_every_watcher_of_a_shared_render_sees_its_steps(in_engine, pipeline):
    watchers = [QuietWatcher(), QuietWatcher()]

    async def story(engine):
        pipeline.gate.clear()
        asked = [asyncio.create_task(engine.generate(make_request(), watcher)) for watcher in watchers]
        await asyncio.sleep(0.1)
        pipeline.gate.set()
        await asyncio.gather(*asked)

    await in_engine(story)
    assert [watcher.steps[-1] for watcher in watchers] == [(8, 8), (8, 8)]


@pytest.mark.parametrize(
    ("changes", "setting", "detail", "reason"),
    [
        ({"cache": CacheMode.BYPASS}, {}, "asked for by the caller", "asked"),
        ({"seed": -1}, {}, "seed -1", "seed"),
        ({"debug": True}, {}, "debug mode", "debug"),
        ({}, {"debug": True}, "debug mode", "debug"),
        ({}, {"disable_cache": True}, "the cache is disabled (settings)", "disabled"),
        ({"prompt": "a {red|blue} car"}, {}, "dynamic prompt: {red|blue}", "dynamic_prompts"),
    ],
)
async def test_bypass_says_why_counts_why_and_keeps_nothing(in_engine, changes, setting, detail, reason):
    async def story(engine):
        result = await engine.generate(make_request(**changes))
        engine.store.flush()
        return result, engine.metrics.snapshot(), engine.store.usage().entries

    result, counted, entries = await in_engine(story, **setting)
    status = result.status
    assert (status.outcome, status.key, status.detail) == (Outcome.BYPASS, None, detail)
    assert counted.bypass_reasons == {reason: 1}
    assert entries == 0


async def test_a_drawn_seed_is_reported_and_gives_the_same_picture_again(in_engine):
    async def story(engine):
        drawn = await engine.generate(make_request(seed=-1))
        again = await engine.generate(make_request(seed=drawn.request.seed))
        return drawn, again

    drawn, again = await in_engine(story)
    assert drawn.request.seed >= 0
    assert drawn.digest == again.digest


async def test_with_keep_random_a_drawn_seed_is_a_miss_under_that_seed(in_engine):
    async def story(engine):
        drawn = await engine.generate(make_request(seed=-1))
        return drawn, await engine.generate(make_request(seed=drawn.request.seed))

    drawn, again = await in_engine(story, keep_random=True)
    assert (drawn.status.outcome, again.status.outcome) == (Outcome.MISS, Outcome.HIT)


async def test_a_stale_entry_is_a_miss_that_says_so(in_engine, clock):
    async def story(engine):
        await warm(engine)
        clock.advance(61)
        return await engine.generate(make_request())

    status = (await in_engine(story, ttl_seconds=60.0)).status
    assert (status.outcome, status.stale) == (Outcome.MISS, True)
    assert "fwd=stale" in status.header()


async def test_a_corrupt_blob_costs_a_hit_and_not_a_picture(in_engine, settings):
    first = await in_engine(warm)
    (blob,) = [path for path in (settings.cache_dir / "results" / "blobs").rglob("*") if path.is_file()]
    blob.write_bytes(b"rubbish")
    again = await in_engine(warm)
    assert again.status.outcome is Outcome.MISS
    assert again.digest == first.digest
    assert (await in_engine(warm)).status.outcome is Outcome.HIT


async def test_only_a_stored_answer_never_renders(in_engine, pipeline):
    async def story(engine):
        with pytest.raises(NotCachedError, match="ask with cache=use"):
            await engine.generate(make_request(cache=CacheMode.ONLY))
        with pytest.raises(NotCachedError, match="bypassed"):
            await engine.generate(make_request(cache=CacheMode.ONLY, seed=-1))
        await warm(engine)
        return await engine.generate(make_request(cache=CacheMode.ONLY))

    assert (await in_engine(story)).status.outcome is Outcome.HIT
    assert len(pipeline.rendered) == 1


async def test_whoever_only_looks_whether_it_is_kept_is_no_error_that_is_counted(in_engine, pipeline):
    async def story(engine):
        missing = await engine.find(make_request())
        await warm(engine)
        found = await engine.find(make_request())
        return missing, found, engine.metrics.snapshot()

    missing, found, counted = await in_engine(story)
    assert (missing, found.status.outcome) == (None, Outcome.HIT)
    assert not [name for name in counted.events if name.startswith("answered_")]
    assert len(pipeline.rendered) == 1


async def test_a_refresh_renders_again_and_replaces_the_entry(in_engine, pipeline):
    async def story(engine):
        old = await warm(engine)
        pipeline.salt = 1
        new = await warm(engine, cache=CacheMode.REFRESH)
        return old, new, await engine.generate(make_request()), engine.store.usage()

    old, new, again, usage = await in_engine(story)
    assert new.status.outcome is Outcome.MISS
    assert old.digest != new.digest == again.digest
    assert usage.entries == 1


async def test_a_refresh_does_not_share_the_flight_of_a_hit(in_engine):
    async def story(engine):
        await warm(engine)
        return await asyncio.gather(
            engine.generate(make_request()), engine.generate(make_request(cache=CacheMode.REFRESH))
        )

    used, refreshed = await in_engine(story)
    assert (used.status.outcome, refreshed.status.outcome) == (Outcome.HIT, Outcome.MISS)


async def test_a_batch_is_partly_hits(in_engine, pipeline):
    async def story(engine):
        await warm(engine, seed=8)
        return await engine.generate_many([make_request(seed=seed) for seed in (7, 8, 9)])

    outcomes = [result.status.outcome for result in await in_engine(story)]
    assert outcomes == [Outcome.MISS, Outcome.HIT, Outcome.MISS]
    assert pipeline.rendered[0].seed == 8
    assert sorted(request.seed for request in pipeline.rendered) == [7, 8, 9]


async def test_a_mistake_in_a_batch_is_told_before_anything_is_rendered(in_engine, pipeline):
    async def story(engine):
        with pytest.raises(RequestError, match="steps"):
            await engine.generate_many([make_request(), make_request(steps=0)])

    await in_engine(story)
    assert pipeline.rendered == []


async def test_a_closed_engine_says_so(in_engine):
    kept = []

    async def story(engine):
        kept.append(engine)

    await in_engine(story)
    with pytest.raises(EngineClosedError):
        await kept[0].generate(make_request())


async def test_an_unwritable_cache_folder_costs_hits_and_no_picture(in_engine, tmp_path, pipeline):
    blocked = tmp_path / "a file"
    blocked.write_text("in the way")

    async def story(engine):
        return [await engine.generate(make_request()) for _ in range(2)]

    results = await in_engine(story, cache_dir=blocked)
    assert [result.status.outcome for result in results] == [Outcome.BYPASS, Outcome.BYPASS]
    assert results[0].status.detail == "the result store could not be opened; it is tried again"
    assert results[0].digest == results[1].digest


async def test_hook_zit_fingerprint_fields_makes_a_new_key(in_engine, plugins):
    class Watermark:
        fields_version = 3

        @hookimpl
        def zit_fingerprint_fields(self):
            return {"text": "mine"}

    before = await in_engine(warm)
    plugins.register(Watermark(), "watermark")
    after = await in_engine(warm)
    assert after.status.outcome is Outcome.MISS
    assert before.status.key != after.status.key


async def test_hook_zit_bypass_reason_rules_the_cache_out(in_engine, plugins):
    class Private:
        @hookimpl
        def zit_bypass_reason(self, request):
            return "private" if "secret" in request.prompt else None

    plugins.register(Private(), "private")

    async def story(engine):
        result = await engine.generate(make_request(prompt="a secret"))
        return result.status, engine.metrics.snapshot().bypass_reasons

    status, reasons = await in_engine(story)
    assert (status.outcome, status.detail, reasons) == (Outcome.BYPASS, "private", {"private": 1})


async def test_hook_zit_request_finished_is_told_of_each(in_engine, plugins):
    told = []

    class Listener:
        @hookimpl
        def zit_request_finished(self, result, seconds):
            told.append((result.status.outcome, seconds >= 0))

    plugins.register(Listener(), "listener")

    async def story(engine):
        await warm(engine)
        await engine.generate(make_request())

    await in_engine(story)
    assert told == [(Outcome.MISS, True), (Outcome.HIT, True)]


async def test_hook_zit_eviction_score_decides_who_goes(in_engine, plugins):
    class NewestFirst:
        @hookimpl
        def zit_eviction_score(self, policy, entry):
            return -float(entry.sequence) if policy == "newest_first" else None

    plugins.register(NewestFirst(), "newest_first")

    async def story(engine):
        for seed in (1, 2, 3):
            await warm(engine, seed=seed)
        modes = [make_request(seed=seed, cache=CacheMode.ONLY) for seed in (1, 2, 3)]
        answers = await asyncio.gather(*map(engine.generate, modes), return_exceptions=True)
        return [not isinstance(answer, NotCachedError) for answer in answers]

    stayed = await in_engine(story, max_entries=2, eviction="newest_first")
    assert stayed[0]
    assert sum(stayed) == 2


@pytest.mark.parametrize("hook", [name for name in vars(hookspecs) if name.startswith("zit_")])
async def test_a_failing_plugin_may_cost_a_hit_but_never_a_picture(in_engine, plugins, hook):
    def fail():
        raise ZeroDivisionError("oops")

    plugins.register(types.SimpleNamespace(**{hook: hookimpl(fail, specname=hook)}), "failing")

    async def story(engine):
        return [
            await engine.generate(make_request(seed=seed)) for seed in range(3)
        ], engine.metrics.snapshot()

    results, counted = await in_engine(story, max_entries=2)
    assert all(result.digest for result in results)
    if hook in ("zit_fingerprint_fields", "zit_bypass_reason"):
        assert all("'failing'" in result.status.detail for result in results)
        assert counted.bypass_reasons == {"plugin_failed": 3}


async def test_two_loras_at_strength_zero_are_no_loras(in_engine):
    async def story(engine):
        await warm(engine)
        idle = LoraRef(source="oil", strength=0)
        return await engine.generate(make_request(loras=(idle, idle), negative_prompt="no effect"))

    assert (await in_engine(story)).status.outcome is Outcome.HIT
