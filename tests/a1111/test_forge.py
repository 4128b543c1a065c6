"""The native cache in a fake Forge, which keeps weights, LoRAs and embeddings in its own way."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import pytest

from .native_jobs import outcome, reason

pytestmark = pytest.mark.pipeline  # for torch


@pytest.fixture
def forge(start):
    return start(forge=True)


def lora(forge, *names: str, data: bytes = b"lora"):
    path = forge.fake.write("lora/style.safetensors", data)
    for name in names or ("style",):
        forge.fake.modules["networks"].available_network_aliases[name] = SimpleNamespace(filename=str(path))


def using(name: str, strength: float = 1.0):
    return {"extra_network_data": {"lora": [(name, strength)]}}


def test_a_picture_made_before_comes_back_to_the_bit_after_a_restart_too(start):
    forge = start(forge=True)
    first, second = forge.run(), forge.run()
    third = start(forge=True).run()

    assert [outcome(each) for each in (first, second, third)] == ["miss", "hit", "hit"]
    assert (second.renders, third.renders) == (0, 0)
    assert first.pictures == second.pictures == third.pictures
    assert first.infotexts == second.infotexts == third.infotexts


def test_before_anything_is_loaded_a_job_is_bypassed(forge):
    forge.fake.data.sd_model = SimpleNamespace(cond_stage_model=None)

    assert outcome(forge.run()) == "bypass"


def test_the_strength_of_a_lora_is_in_the_key_though_its_network_does_not_tell_it(forge):
    lora(forge)
    pictures = [forge.run(**using("style", strength)) for strength in (1.0, 0.5, 1.0)]

    assert [outcome(each) for each in pictures] == ["miss", "miss", "hit"]
    assert pictures[0].pictures == pictures[2].pictures != pictures[1].pictures


def test_a_lora_replaced_under_its_path_is_bypassed_under_every_name_since_forge_keeps_the_old_one(forge):
    lora(forge, "style", "alias")
    before = forge.run(**using("style"))
    lora(forge, "style", "alias", data=b"new")
    after = [forge.run(**using(name)) for name in ("style", "alias")]

    assert [outcome(each) for each in after] == ["bypass", "bypass"]
    assert all("restart the webui" in reason(each) or "load it again" in reason(each) for each in after)
    assert before.pictures == after[0].pictures == after[1].pictures


def test_a_lora_that_an_earlier_job_left_is_not_taken_for_none(forge):
    lora(forge)
    forge.run(**using("style"))
    forge.fake.begin_loras = lambda: forge.fake.modules["networks"].loaded_networks.clear()
    left = forge.run()

    assert outcome(left) == "bypass"


def test_a_vae_chosen_beside_the_checkpoint_is_in_the_key_by_its_content(forge):
    plain = forge.run()
    path = forge.fake.write("models/VAE/other.safetensors", b"vae")
    forge.fake.choose(path)
    waiting = forge.run()
    forge.fake.load_model()
    other, again = forge.run(), forge.run()
    forge.fake.choose()
    forge.fake.load_model()

    assert outcome(waiting) == "bypass"
    assert "chosen while" in reason(waiting)
    assert [outcome(each) for each in (other, again)] == ["miss", "hit"]
    assert plain.pictures != other.pictures == again.pictures
    assert outcome(forge.run()) == "hit"


def test_an_embedding_is_in_the_key_by_its_numbers(forge):
    import torch

    vectors = forge.fake.engine.embeddings.word_embeddings
    seen = []
    for values in ([1.0], [2.0], [1.0]):
        vectors["zebra"] = SimpleNamespace(vec=torch.tensor(values))
        seen.append(forge.run(prompt="a Zebra"))

    assert [outcome(each) for each in seen] == ["miss", "miss", "hit"]


@pytest.mark.parametrize("change", ["tiled", "storage", "prediction"])
def test_what_the_numbers_are_computed_with_is_in_the_key(forge, change):
    forge.run()
    inner = forge.fake.model.forge_objects_original.unet.model
    if change == "tiled":
        forge.fake.modules["backend.memory_management"].VAE_ALWAYS_TILED = True
    elif change == "storage":
        inner.storage_dtype = "nf4"
    else:
        inner.predictor.prediction_type = "v_prediction"

    assert outcome(forge.run()) == "miss"


def test_what_the_batches_before_have_left_in_the_job_costs_no_hit(forge):
    forge.run(latents_after_sampling=[], pixels_after_sampling=[])
    later = forge.run(latents_after_sampling=["latents"], pixels_after_sampling=[object()])

    assert outcome(later) == "hit"


def test_the_conditions_that_forge_keeps_are_emptied_in_its_own_shape(forge):
    job = forge.job(cached_c=["prompts", "conditions", {"Emphasis": "No norm"}])
    host = sys.modules["a1111_extension.host"]
    host.use_conditions(job, host.no_conditions(job))

    assert job.cached_c == [None, None, None]


def test_token_merging_is_bypassed_since_forge_draws_what_it_merges(forge):
    done = forge.run(get_token_merging_ratio=lambda for_hr=False: 0.5 if for_hr else 0.0)

    assert outcome(done) == "bypass"
    assert "at random" in reason(done)


def test_other_modules_for_hires_are_bypassed_and_the_same_ones_are_not(forge):
    hires = {"enable_hr": True}
    same = forge.run(**hires, hr_additional_modules=["Use same choices"])
    other = forge.run(**hires, hr_additional_modules=["other.safetensors"])

    assert (outcome(same), outcome(other)) == ("miss", "bypass")
    assert "for hires" in reason(other)


def test_the_checkpoint_leaves_the_device_by_forges_own_way_and_comes_back_by_itself(forge):
    models = forge.fake.modules["modules.sd_models"]
    unloaded, sent = [], []
    models.unload_model_weights = lambda: unloaded.append(True)
    models.send_model_to_cpu = lambda model: None  # as Forge's does
    models.send_model_to_device = sent.append
    host_checkpoint = importlib.import_module("a1111_extension.host_checkpoint")

    assert host_checkpoint.free()
    assert unloaded == [True]
    assert host_checkpoint.bring_back()
    assert sent == []


@pytest.mark.parametrize(
    ("folder", "is_told"), [("sd_forge_freeu", True), ("sd_forge_controlnet", False), ("sd_forge_new", False)]
)
def test_forges_own_scripts_are_bypassed_in_use_if_their_arguments_do_not_tell_all(forge, folder, is_told):
    Base = forge.fake.modules["modules.scripts"].Script  # noqa: N806

    class Patches(Base):
        name = folder

        def process(self, p, *args): ...

    forge.add(Patches(), [False], builtin=f"extensions-builtin/{folder}/scripts", defaults=[False])
    assert outcome(forge.run()) == "miss"
    forge.scripts[-1] = (forge.scripts[-1][0], [True])
    done = forge.run()

    assert outcome(done) == ("miss" if is_told else "bypass")
    if not is_told:
        assert folder in reason(done)
