"""The native cache in a fake webui: the order of calls is the real one's, the samples are real tensors."""

from __future__ import annotations

import pytest

from .native_jobs import embed, lora, outcome, reason

pytestmark = pytest.mark.pipeline  # for torch


def test_a_picture_made_before_comes_back_to_the_bit_and_nothing_is_encoded_or_rendered(webui):
    first = webui.run()
    encodes = webui.fake.encodes
    second = webui.run()

    assert (outcome(first), outcome(second)) == ("miss", "hit")
    assert (first.renders, second.renders) == (1, 0)
    assert webui.fake.encodes == encodes
    assert (second.pictures, second.infotexts) == (first.pictures, first.infotexts)


def test_what_the_cache_answers_is_what_the_webui_alone_would_have_made(webui):
    kept = webui.run()
    hit = webui.run()
    webui.scripts.clear()
    alone = webui.run()

    assert alone.renders == 1
    assert kept.pictures == hit.pictures == alone.pictures
    assert kept.infotexts == hit.infotexts == alone.infotexts


def test_a_restart_of_the_webui_forgets_nothing(start):
    first = start().run()
    second = start().run()

    assert (outcome(second), second.renders) == ("hit", 0)
    assert second.pictures == first.pictures


def test_reloading_the_ui_forgets_nothing(webui):
    first = webui.run()
    webui.fake.callbacks.clear()
    webui.native_cache.register()

    assert outcome(webui.run()) == "hit"
    webui.fake.load_model()
    assert webui.run().pictures == first.pictures


def test_a_job_is_answered_batch_by_batch(webui):
    webui.run(seed=7)
    many = webui.run(seed=6, n_iter=3)
    alone = [webui.run(seed=seed) for seed in (6, 7, 8)]

    assert many.renders == 2
    assert [outcome(each) for each in alone] == ["hit"] * 3
    assert many.pictures == [each.pictures[0] for each in alone]


def test_pictures_that_were_sampled_together_are_kept_together(webui):
    webui.run(seed=6, batch_size=2)

    assert outcome(webui.run(seed=6, batch_size=2)) == "hit"
    assert outcome(webui.run(seed=6)) == "miss"


def test_the_infotext_is_whole_whatever_was_in_it_before(webui):
    # In the second batch of a job the sampler writes what the first has written already.
    many = webui.run(seed=6, n_iter=2)
    alone = webui.run(seed=7)

    assert outcome(alone) == "hit"
    assert alone.infotexts == [many.infotexts[1]]
    assert "Schedule type" in alone.infotexts[0]


def test_the_conditions_of_a_job_are_encoded_once_for_all_its_batches(webui):
    before = webui.fake.encodes
    webui.run(n_iter=3)

    assert webui.fake.encodes == before + 1


def test_jobs_that_differ_by_their_seed_alone_encode_their_prompts_once(webui):
    before = webui.fake.encodes
    jobs = [webui.run(seed=each) for each in (1, 2, 3)]

    assert [outcome(each) for each in jobs] == ["miss"] * 3
    assert webui.fake.encodes == before + 1


@pytest.mark.parametrize("forgets", [{"persistent_cond_cache": False}, {"emphasis": "No norm"}], ids=repr)
def test_a_webui_that_forgets_encoded_prompts_or_tells_of_them_encodes_for_each_job(webui, forgets):
    webui.fake.options.data |= forgets
    before = webui.fake.encodes
    for seed in (1, 2):
        webui.run(seed=seed, prompt="a (red:1.2) cat")

    assert webui.fake.encodes == before + 2


def test_encoded_prompts_of_other_weights_are_never_used(start):
    """Whatever came before, a picture is that of a webui that has just been started."""

    def change(webui, step):
        if step == "embedding":
            embed(webui, "cat", [2.0])
        return lora(webui) if step == "lora" else {}

    steps = ("first", "lora", "again", "embedding", "again")
    webui = start()
    seen = {
        (number, step): webui.run(seed=number, **change(webui, step)) for number, step in enumerate(steps)
    }
    alone = start()
    alone.scripts.clear()
    expected = {}
    for number, step in enumerate(steps):
        type(alone.job()).cached_c[:] = [None, None]
        expected[number, step] = alone.run(seed=number, **change(alone, step))

    assert {each: done.pictures for each, done in seen.items()} == {
        each: done.pictures for each, done in expected.items()
    }


def test_prompts_are_encoded_on_a_hit_where_that_writes_the_infotext(webui):
    webui.fake.options.data["emphasis"] = "No norm"
    webui.run(prompt="a (red:1.2) cat")
    encodes = webui.fake.encodes
    hit = webui.run(prompt="a (red:1.2) cat")

    assert (outcome(hit), hit.renders) == ("hit", 0)
    assert webui.fake.encodes == encodes + 1


def test_the_refiner_may_ask_for_conditions_in_mid_render(webui):
    webui.fake.during_render = lambda p: p.setup_conds()
    first = webui.run()

    assert (outcome(first), outcome(webui.run())) == ("miss", "hit")


def test_the_job_has_its_own_methods_again_afterwards(webui):
    for _ in range(2):
        job = webui.job()
        webui.finish(job)
        assert not {"sample", "setup_conds"} & vars(job).keys()


def test_nothing_is_touched_while_it_is_switched_off(webui):
    webui.scripts[0] = (webui.script, [False])
    done = webui.run()
    assert (done.comments, done.renders) == ([], 1)

    webui.fake.options.data["zit_native_cache"] = True
    assert outcome(webui.run()) == "miss"


def test_the_settings_can_switch_the_cache_off(start, monkeypatch):
    monkeypatch.setenv("ZIT_DISABLE_CACHE", "1")
    webui = start()
    webui.run()

    assert "switch the cache off" in reason(webui.run())


def test_entries_lie_in_a_namespace_of_their_own_and_count_what_they_save(webui):
    webui.run()
    webui.run()
    (entry,) = webui.engine.store.entries()
    counted = webui.engine.metrics.snapshot()

    assert (entry.namespace, entry.blob.media_type) == ("a1111", "application/x-safetensors")
    assert entry.prompt == "a cat"
    assert (counted.requests, counted.saved_seconds > 0) == ({"miss": 1, "hit": 1}, True)


def _merges(p):
    p.extra_generation_params |= {"Merged": 1}


def _replaces(p):
    p.extra_generation_params = {**p.extra_generation_params, "Merged": 1}


@pytest.mark.parametrize(("writes", "then"), [(_merges, "hit"), (_replaces, "miss")])
def test_an_infotext_is_whole_whichever_way_it_is_written(webui, writes, then):
    webui.fake.during_render = writes
    first, second = webui.run(), webui.run()

    assert "'Merged': 1" in first.infotexts[0]
    assert second.infotexts == first.infotexts
    assert (outcome(first), outcome(second)) == ("miss", then)
