"""The native cache in a fake webui: the order of calls is the real one's, the samples are real tensors."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.pipeline  # for torch


def outcome(done) -> str:
    (line,) = [each for each in done.comments if each.startswith("zit_ext: ")]
    return line.removeprefix("zit_ext: ").partition(",")[0]


def reason(done) -> str:
    (line,) = [each for each in done.comments if each.startswith("zit_ext: ")]
    return line.partition(", ")[2]


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


def lora(webui, data=b"lora", name="style"):
    path = webui.fake.write(f"lora/{name}.safetensors", data)
    webui.fake.modules["networks"].available_network_aliases[name] = SimpleNamespace(filename=str(path))
    return {"extra_network_data": {"lora": [(name, 1.0)]}}


def embed(webui, name, values):
    import torch

    database = webui.fake.modules["modules.sd_hijack"].model_hijack.embedding_db
    database.word_embeddings[name] = SimpleNamespace(vec=torch.tensor(values))


def test_the_conditions_of_a_job_are_encoded_once_for_all_its_batches(webui):
    before = webui.fake.encodes
    webui.run(n_iter=3)

    assert webui.fake.encodes == before + 1


class Other(SimpleNamespace):
    """Something that has no one spelling."""


def test_a_script_that_may_change_the_model_is_bypassed_by_name_while_it_is_in_use(webui):
    Base = webui.fake.modules["modules.scripts"].Script  # noqa: N806

    class Patches(Base):
        name = "patcher"

        def process(self, p, *args): ...

    webui.add(Patches(), [False, 1.0], defaults=[False, 1])
    webui.run()
    assert outcome(webui.run()) == "hit"

    webui.scripts[-1] = (webui.scripts[-1][0], [True, 1.0])
    done = webui.run()
    assert (outcome(done), done.renders) == ("bypass", 1)
    assert "patcher" in reason(done)


def test_a_script_that_the_user_has_switched_on_by_default_is_in_use(webui):
    Base = webui.fake.modules["modules.scripts"].Script  # noqa: N806

    class Patches(Base):
        name = "patcher"

        def process(self, p, *args): ...

    script = webui.add(Patches(), [True], defaults=[False])
    script.controls[0].value = True  # as the webui does when it reads ui-config.json

    assert outcome(webui.run()) == "bypass"


def test_a_script_that_only_touches_pictures_costs_no_hit(webui):
    Base = webui.fake.modules["modules.scripts"].Script  # noqa: N806

    class Polishes(Base):
        name = "polisher"

        def postprocess_image(self, p, pp, *args): ...

    webui.add(Polishes(), [1], defaults=[0])
    webui.run()
    webui.scripts[-1] = (webui.scripts[-1][0], [Other()])

    assert outcome(webui.run()) == "hit"


REFUSED = {
    "something unhashable": (lambda webui: {"unknown": Other()}, "unknown is a Other"),
    "a chosen script": (lambda webui: choose(webui), "may do anything"),
    "hires of a finished picture": (lambda webui: {"firstpass_image": object()}, "differs from run to run"),
    "a refiner": (lambda webui: {"refiner_checkpoint_info": object()}, "second checkpoint"),
    "hires with TAESD previews": (
        lambda webui: (
            webui.fake.options.data.update(live_previews_enable=True, show_progress_type="TAESD")
            or {"enable_hr": True, "latent_scale_mode": None, "hr_upscaler": "Lanczos"}
        ),
        "TAESD previews",
    ),
    "a hypernetwork": (
        lambda webui: webui.fake.modules["modules.shared"].loaded_hypernetworks.append(1) or {},
        "hypernetwork",
    ),
    "another UNet": (
        lambda webui: setattr(webui.fake.modules["modules.sd_unet"], "current_unet", 1) or {},
        "another UNet",
    ),
    "a network that nobody knows": (
        lambda webui: {"extra_network_data": {"other": ["x"]}},
        "<other:...>",
    ),
    "an approximate VAE": (
        lambda webui: webui.fake.options.data.update(sd_vae_decode_method="TAESD") or {},
        "TAESD",
    ),
    "hires with the NV generator": (
        lambda webui: (
            webui.fake.options.data.update(randn_source="NV")
            or {"enable_hr": True, "latent_scale_mode": None, "hr_upscaler": "Lanczos"}
        ),
        "not repeatable",
    ),
    "another extension in our place": (lambda webui: {"sample": lambda **named: None}, "replaces how"),
}


def choose(webui):
    from .fake_webui import Runner, Script

    runner = Runner()
    script = Script()
    script.filename, script.name = str(webui.fake.folder / "scripts" / "custom_code.py"), "custom code"
    runner.selectable_scripts.append(script)
    return {"scripts_value": runner, "script_args_value": [1]}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_told_for_sure_is_bypassed_with_the_reason(webui, change, words):
    job = webui.job(**change(webui))
    if "sample" in vars(job):
        real = type(job).sample
        job.sample = lambda **named: real(job, **named)
    first = webui.finish(job)

    assert outcome(first) == "bypass"
    assert words in reason(first)
    assert first.renders == 1
    assert webui.engine.store.usage().entries == 0


def test_img2img_is_bypassed_with_the_reason(webui):
    webui.script.is_img2img = True
    done = webui.run()

    assert (outcome(done), reason(done)) == ("bypass", "img2img is not kept yet")


@pytest.mark.parametrize("flag", ["interrupted", "skipped"])
def test_half_a_picture_is_never_kept(webui, flag):
    state = webui.fake.modules["modules.shared"].state
    webui.fake.during_render = lambda p: setattr(state, flag, True)
    stopped = webui.run()
    setattr(state, flag, False)
    webui.fake.during_render = lambda p: None

    assert "interrupted" in reason(stopped)
    assert outcome(webui.run()) == "miss"


def test_a_picture_whose_memory_ran_out_is_not_kept(webui, monkeypatch):
    """The webui caught that, and decoded in tiles: another picture than that of a run with enough."""
    import torch

    ooms = [3, 0]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: {"num_ooms": ooms[device]})
    webui.fake.during_render = lambda p: ooms.__setitem__(1, 1)
    tiled = webui.run()
    again = webui.run()

    assert "memory ran out" in reason(tiled)
    assert outcome(again) == "miss"
    assert "memory ran out" not in reason(again)
    assert outcome(webui.run()) == "hit"


def test_settings_that_change_in_mid_render_are_not_kept(webui):
    webui.fake.during_render = lambda p: webui.fake.options.data.update(CLIP_stop_at_last_layers=2)
    changed = webui.run()

    assert "settings changed" in reason(changed)
    assert webui.engine.store.usage().entries == 0


def test_weights_that_change_in_mid_render_are_not_kept(webui):
    webui.fake.during_render = lambda p: webui.fake.write("models/tiny.safetensors", b"new")
    changed = webui.run()

    assert "changed while it was rendered" in reason(changed)
    assert webui.engine.store.usage().entries == 0


def test_an_infotext_that_cannot_be_kept_is_not_kept(webui):
    webui.fake.during_render = lambda p: p.extra_generation_params.update(call=print)

    assert "infotext" in reason(webui.run())
    assert webui.engine.store.usage().entries == 0


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


def test_a_damaged_entry_costs_a_hit_and_not_a_picture(webui, tmp_path):
    first = webui.run()
    (blob,) = [each for each in (tmp_path / "cache" / "results").rglob("*") if is_blob(each)]
    damaged = bytearray(blob.read_bytes())
    damaged[-3] ^= 1
    webui.engine.store._memory.drop(next(iter(webui.engine.store.entries())).key)
    blob.write_bytes(damaged)
    second = webui.run()

    assert (outcome(second), second.renders) == ("miss", 1)
    assert second.pictures == first.pictures


def is_blob(path) -> bool:
    return path.is_file() and "blobs" in path.parts


def test_a_fault_of_ours_costs_a_hit_and_not_a_picture(webui, monkeypatch, caplog):
    def broken(*arguments):
        raise KeyError("a webui that we do not know")

    monkeypatch.setattr(webui.native_cache, "question", broken)
    done = webui.run()

    assert (outcome(done), done.renders) == ("bypass", 1)
    assert "KeyError" in reason(done)
    assert "could not be asked" in caplog.text


def test_a_store_that_cannot_be_opened_costs_no_picture(webui):
    webui.run()
    webui.engine.store.close()
    done = webui.process(webui.job())

    assert (outcome(done), len(done.pictures)) == ("bypass", 1)


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


def test_a_cache_that_cannot_start_costs_no_picture(webui, monkeypatch):
    monkeypatch.setenv("ZIT_MAX_ENTRIES", "lots")
    alone = webui.process(webui.job())

    assert (outcome(alone), len(alone.pictures)) == ("bypass", 1)
    assert "max_entries" in reason(alone)


@pytest.mark.parametrize("error", [MemoryError(), OSError("disk"), ValueError("whatever")], ids=repr)
@pytest.mark.parametrize("step", ["find", "keep"])
def test_no_fault_of_the_cache_costs_a_picture(webui, monkeypatch, step, error):
    def fails(*_arguments, **_named):
        raise error

    monkeypatch.setattr(webui.keeping.Keeper, step, fails)
    assert webui.run().renders == 1


@pytest.mark.parametrize(
    "notes", ["{}", "[]", "5", '{"infotext": [], "eta": null}', "[" * 200_000], ids=range(5)
)
def test_an_entry_with_notes_of_another_kind_is_rendered_anew(webui, notes):
    from zit_ext.records import Encoded
    from zit_ext.tensors import decode_tensors, encode_tensors

    webui.run()
    store, find = webui.engine.store, webui.keeping.Keeper.find

    def found(self, asked):
        answer = find(self, asked)
        tensors, _ = decode_tensors(answer.content.data)
        data = encode_tensors(tensors, {"webui": notes})
        return dataclasses.replace(answer, content=Encoded(answer.content.media_type, data))

    assert store.entries()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webui.keeping.Keeper, "find", found)
        assert webui.run().renders == 1


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


def test_a_webui_that_samples_in_another_way_is_told_at_its_start_and_not_at_a_job(webui, monkeypatch):
    monkeypatch.delattr(webui.fake.modules["modules.processing"], "DecodedSamples")

    with pytest.raises(RuntimeError, match="samples in another way: there is no DecodedSamples"):
        webui.native_cache.register()
