"""What the native cache does not look up or does not keep, and that it says why."""

from __future__ import annotations

import pytest

from .native_jobs import Other, choose, outcome, reason

pytestmark = pytest.mark.pipeline  # for torch


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
