"""The real `webuiapi` package speaks to us, and understands what it hears."""

from __future__ import annotations

import io
import json
import threading

import pytest
import webuiapi
from PIL import Image

from .server import ALICE

pytestmark = pytest.mark.http


@pytest.fixture
def api(served):
    return webuiapi.WebUIApi(port=served.port, steps=4)


def test_a_picture_comes_back_with_its_parameters(api, pipeline):
    answer = api.txt2img(prompt="a fox", negative_prompt="blur", seed=7, cfg_scale=1, width=256, height=512)

    assert answer.image.size == (4, 4)  # as the fake weights draw it
    asked = pipeline.rendered[0]
    assert (asked.width, asked.height, asked.steps, asked.guidance) == (256, 512, 4, 0.0)
    assert answer.info["seed"] == 7
    assert answer.info["sampler_name"] == "Euler"
    assert "Steps: 4, Sampler: Euler, CFG scale: 1, Seed: 7, Size: 256x512" in answer.info["infotexts"][0]
    assert "hash" not in answer.info["infotexts"][0].lower()


def test_the_cfg_scale_of_the_webui_counts_from_1(api, pipeline):
    api.txt2img(prompt="a fox", seed=7, cfg_scale=4.5)

    assert pipeline.rendered[0].guidance == 3.5


def test_the_second_time_it_is_a_hit_and_info_says_so(api):
    first = api.txt2img(prompt="a fox", seed=7)
    again = api.txt2img(prompt="a fox", seed=7)

    assert (first.info["zit"]["cached"], again.info["zit"]["cached"]) == (False, True)
    assert first.image.tobytes() == again.image.tobytes()
    assert again.info["zit"]["saved_seconds"] == 1.0


def test_a_batch_has_consecutive_seeds(api):
    answer = api.txt2img(prompt="a fox", seed=7, batch_size=2, n_iter=2)

    assert len(answer.images) == 4
    assert answer.info["all_seeds"] == [7, 8, 9, 10]


def test_a_random_seed_is_told(api):
    assert api.txt2img(prompt="a fox").info["seed"] >= 0


def test_a_lora_in_the_prompt_is_a_lora(api, pipeline):
    api.txt2img(prompt="a fox <lora:ink:0.5>", seed=7)

    assert pipeline.rendered[0].prompt == "a fox"
    assert [(each.source, each.strength) for each in pipeline.rendered[0].loras] == [("ink", 0.5)]


def test_an_image_can_be_the_start(api, pipeline):
    start = Image.new("RGB", (32, 32), "red")
    api.img2img(images=[start], prompt="a fox", seed=7, denoising_strength=0.4)

    asked = pipeline.rendered[0]
    assert asked.strength == 0.4
    assert Image.open(io.BytesIO(asked.image.data)).size == (32, 32)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"enable_hr": True}, "enable_hr"),
        ({"restore_faces": True}, "restore_faces"),
        ({"styles": ["ink"]}, "styles"),
        ({"script_name": "xyz"}, "script_name"),
        ({"sampler_name": "DPM++ 2M"}, "sampler_name"),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, "override_settings"),
        ({"width": 500}, "width"),
        ({"subseed_strength": 0.5}, "subseed_strength"),
        ({"batch_size": 0}, "batch_size"),
        ({"prompt": "a <lora:../x:1>"}, "loras"),
        ({"prompt": "a <lora:ink:0.5:0.7>"}, "prompt"),
        ({"prompt": "a <lora:ink:te=0.5>"}, "prompt"),
        ({"prompt": "a <lora:ink:1e-1>"}, "prompt"),
        ({"prompt": "a <lora:ink:0.5> <LORA:oil:1>"}, "prompt"),
    ],
)
def test_what_we_cannot_do_is_refused_by_name(api, pipeline, fields, named):
    with pytest.raises(RuntimeError) as caught:
        api.txt2img(**{"prompt": "a fox", "seed": 7, **fields})

    status, text = caught.value.args
    assert status == 400
    assert named in json.loads(text)["detail"]
    assert pipeline.rendered == []


def test_a_mask_is_refused(api, pipeline):
    start = Image.new("RGB", (32, 32), "red")
    with pytest.raises(RuntimeError, match="mask"):
        api.img2img(images=[start], mask_image=start, prompt="a fox")
    assert pipeline.rendered == []


def test_progress_and_interrupt(api, served, pipeline):
    assert api.get_progress()["state"]["job_count"] == 0
    pipeline.gate.clear()
    failed = []

    def ask():
        try:
            webuiapi.WebUIApi(port=served.port).txt2img(prompt="a fox", seed=7)
        except RuntimeError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert pipeline.started.wait(10)

    during = api.get_progress()
    api.interrupt()
    asking.join(20)

    assert during["state"]["job_count"] == 1
    assert during["progress"] > 0
    assert failed[0].args[0] == 409
    assert "stopped" in json.loads(failed[0].args[1])["detail"]
    assert api.get_progress()["progress"] == 0
    api.util_wait_for_ready(check_interval=0.1)


def test_nobody_interrupts_another_namespace(guarded):
    pipeline = guarded.trial.pipeline
    pipeline.gate.clear()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(guarded.generate(headers=ALICE)))
    asking.start()
    assert pipeline.started.wait(10)

    other = webuiapi.WebUIApi(port=guarded.port, username="bob", password="bob-bob-bob-bob-bob-bob")
    other.interrupt()
    assert other.get_progress()["state"]["job_count"] == 0
    pipeline.gate.set()
    asking.join(20)

    assert answers[0].status_code == 200


def test_options_models_and_samplers(serving):
    served = serving(model="/secret/place/mine", preload="Tongyi-MAI/Z-Image-Turbo")
    api = webuiapi.WebUIApi(port=served.port)

    assert api.util_get_model_names() == ["Tongyi-MAI/Z-Image-Turbo", "mine"]
    assert api.util_get_current_model() == "mine"
    api.set_options({"sd_model_checkpoint": "Tongyi-MAI/Z-Image-Turbo"})
    assert api.util_get_current_model() == "Tongyi-MAI/Z-Image-Turbo"
    answer = api.txt2img(prompt="a fox", seed=7)
    assert answer.info["sd_model_name"] == "Tongyi-MAI/Z-Image-Turbo"
    assert served.trial.rendered[0].model.source == "Tongyi-MAI/Z-Image-Turbo"
    assert api.util_get_sampler_names() == ["Euler"]
    assert api.util_get_scheduler_names() == ["automatic"]
    assert "detail" in api.set_options({"sd_model_checkpoint": "/etc/passwd"})
    assert "detail" in api.set_options({"outdir_samples": "/tmp"})
    for look in (api.get_sd_vae, api.get_upscalers, api.get_embeddings, api.get_scripts, api.get_cmd_flags):
        assert look() is not None


def test_a_wrong_password_is_refused(guarded):
    api = webuiapi.WebUIApi(port=guarded.port, username="alice", password="wrong")
    with pytest.raises(RuntimeError) as caught:
        api.txt2img(prompt="a fox")
    assert caught.value.args[0] == 401
