"""What the key of the native cache knows: what changes a picture is a miss, and nothing else is."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from .native_jobs import embed, lora, outcome, reason

pytestmark = pytest.mark.pipeline  # for torch


CHANGES = {
    "prompt": lambda webui: {"prompt": "a dog"},
    "negative prompt": lambda webui: {"negative_prompt": "blurry"},
    "seed": lambda webui: {"seed": 99},
    "steps": lambda webui: {"steps": 5},
    "an attribute that nobody knows": lambda webui: {"unknown": 1},
    "a LoRA": lora,
    "an option": lambda webui: webui.fake.options.data.update(CLIP_stop_at_last_layers=2) or {},
    "an option that nobody knows": lambda webui: webui.fake.options.data.update(new=1) or {},
    "the command line": lambda webui: (
        setattr(webui.fake.modules["modules.shared"].cmd_opts, "no_half", False) or {}
    ),
    "precision": lambda webui: setattr(webui.fake.modules["modules.devices"], "dtype_vae", "bfloat16") or {},
    "an embedding that the prompt names": lambda webui: embed(webui, "Cat", [1.0]) or {},
    "a variation seed": lambda webui: {"subseed_strength": 0.5},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_whatever_changes_the_picture_is_a_miss(webui, change):
    webui.run()

    assert outcome(webui.run(**change(webui))) == "miss"


UNIMPORTANT = {
    "how it is saved": lambda webui: webui.fake.options.data.update(jpeg_quality=50) or {},
    "a setting of ours": lambda webui: webui.fake.options.data.update(zit_max_entries="7") or {},
    "where the webui listens": lambda webui: (
        setattr(webui.fake.modules["modules.shared"].cmd_opts, "port", 1) or {}
    ),
    "an embedding that no prompt names": lambda webui: embed(webui, "dog", [1.0]) or {},
    "a subseed without strength": lambda webui: {"subseeds": [123]},
}


@pytest.mark.parametrize("change", UNIMPORTANT.values(), ids=list(UNIMPORTANT))
def test_what_changes_no_picture_costs_no_hit(webui, change):
    webui.run()

    assert outcome(webui.run(**change(webui))) == "hit"


def test_the_strength_and_the_content_of_a_lora_count(webui):
    asked = lora(webui)
    webui.run(**asked)
    assert outcome(webui.run(**asked)) == "hit"

    assert outcome(webui.run(extra_network_data={"lora": [("style", 0.5)]})) == "miss"
    assert outcome(webui.run(**lora(webui, b"other", "other"))) == "miss"


def test_another_checkpoint_under_the_same_name_is_a_miss_once_it_is_loaded(webui):
    first = webui.run()
    webui.fake.write("models/tiny.safetensors", b"other weights")
    not_loaded_yet = webui.run()
    webui.fake.model = type(webui.fake.model)(webui.fake)
    webui.fake.modules["modules.sd_models"].model_data.sd_model = webui.fake.model
    webui.fake.load_model()
    loaded = webui.run()

    assert outcome(not_loaded_yet) == "bypass"
    assert "has changed since it was loaded" in reason(not_loaded_yet)
    assert not_loaded_yet.pictures == first.pictures  # the webui still holds the old weights
    assert outcome(loaded) == "miss"
    assert loaded.pictures != first.pictures


def test_a_lora_file_that_the_webui_did_not_read_again_is_bypassed(webui):
    asked = lora(webui)
    first = webui.run(**asked)
    path = webui.fake.folder / "lora" / "style.safetensors"
    time = path.stat().st_mtime
    path.write_bytes(b"another")
    os.utime(path, (time, time))  # as an archive unpacks it: the webui does not notice
    second = webui.run(**asked)
    os.utime(path, (time + 5, time + 5))  # now it does, but may leave layers as they are
    third = webui.run(**asked)

    assert outcome(second) == "bypass"
    assert second.pictures == first.pictures
    assert outcome(third) == "bypass"
    assert "another name" in reason(third)


def test_prompts_that_the_webui_encoded_with_a_lora_that_is_gone_are_encoded_anew(start):
    webui = start()
    webui.scripts[0] = (webui.script, [False])
    webui.run(**lora(webui))  # the webui keeps these conditions for the next job with that prompt
    webui.scripts[0] = (webui.script, [True])
    kept = webui.run()
    restarted = start()
    restarted.scripts.clear()

    assert outcome(kept) == "miss"
    assert kept.pictures == restarted.run().pictures


def test_what_a_lora_is_told_for_another_extension_counts(webui):
    class Blocks(webui.fake.modules["modules.scripts"].Script):
        """As extensions do that weigh a LoRA's layers: always on, and told by the prompt."""

        def process_batch(self, p, *args, **named):
            for each in webui.fake.modules["networks"].loaded_networks:
                each.weights = p.all_prompts[0].partition("lbw=")[2].encode()

    webui.add(Blocks(), [True], defaults=[True])
    asked = lora(webui)
    one = webui.run(prompt="a cat<lora:style:1:lbw=IN>", **asked)
    other = webui.run(prompt="a cat<lora:style:1:lbw=OUT>", **asked)
    again = webui.run(prompt="a cat<lora:style:1:lbw=IN>", **asked)

    assert [outcome(each) for each in (one, other, again)] == ["miss", "miss", "hit"]
    assert other.pictures != one.pictures


def test_a_model_that_was_merged_in_memory_is_not_the_file_that_it_names(webui):
    info = webui.fake.model.sd_checkpoint_info
    info.sha256 = "of the file"
    first = webui.run()
    info.sha256 = "of what was merged into it"
    webui.fake.model.weights = b"merged"
    merged = webui.run()

    assert (outcome(first), outcome(merged)) == ("miss", "miss")
    assert merged.pictures != first.pictures


def test_an_extension_that_changes_counts_from_the_next_reload_of_the_ui(webui, monkeypatch):
    folder = webui.fake.folder / "extensions" / "other"
    program = webui.fake.write("extensions/other/scripts/other.py", b"")
    extension = SimpleNamespace(name="other", path=str(folder))
    monkeypatch.setattr(webui.fake.modules["modules.extensions"], "active", lambda: [extension])
    webui.native_cache.register()
    webui.run()
    program.write_bytes(b"changed = True")
    before = webui.run()
    webui.native_cache.register()

    assert outcome(before) == "hit"  # what the webui has read is what it runs
    assert outcome(webui.run()) == "miss"
