"""Our pictures are those of the plain diffusers pipelines, to the bit."""

from __future__ import annotations

import copy
import inspect
import io
from dataclasses import replace

import pytest

from zit_ext.policy import SCHEDULER_OPTIONS
from zit_ext.records import InputImage, ModelRef, SchedulerRef
from zit_ext.testing import QuietWatcher

pytestmark = pytest.mark.pipeline


def a_picture(width, height, mode="RGB"):
    from PIL import Image

    data = bytes(
        (x * 7 + y * 3 + band * 50) % 256 for y in range(height) for x in range(width) for band in range(3)
    )
    return Image.frombytes("RGB", (width, height), data).convert(mode)


def as_file(picture, kind="PNG"):
    out = io.BytesIO()
    picture.save(out, kind)
    return InputImage.of(out.getvalue())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"seed": 2**64 - 1},
        {"seed": -7},
        {"width": 128, "height": 32},
        {"width": 48, "height": 80, "steps": 1},
        {"steps": 3},
        {"prompt": ""},
        {"prompt": "雪の中の狐 🦊\r\n  twice  "},
        {"guidance": 2.5, "negative_prompt": "blurred"},
        {"guidance": 1e-9},
        {"guidance": 3.0},
        {"guidance": -1.0, "negative_prompt": "not used"},
    ],
    ids=str,
)
def test_a_picture_from_text_is_the_plain_pipelines(zimage, plain_tiny, ask, render, plainly, fields):
    request = ask(**fields)

    assert render(zimage, request).content == plainly(plain_tiny, request)


@pytest.mark.parametrize(
    ("fields", "arguments"),
    [
        (
            {"guidance": 4.0, "cfg_normalization": 0.5, "negative_prompt": "grey"},
            {"cfg_normalization": 0.5},
        ),
        ({"guidance": 4.0, "cfg_truncation": 0.4}, {"cfg_truncation": 0.4}),
        ({"max_sequence_length": 16}, {"max_sequence_length": 16}),
        ({"sigmas": (1.0, 0.7, 0.2), "steps": 3}, {"sigmas": [1.0, 0.7, 0.2]}),
    ],
    ids=str,
)
def test_every_argument_reaches_the_pipeline(zimage, plain_tiny, ask, render, plainly, fields, arguments):
    request = ask(**fields)

    ours = render(zimage, request).content

    assert ours == plainly(plain_tiny, request, **arguments)
    assert ours != render(zimage, ask(guidance=request.guidance, steps=request.steps)).content


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_bfloat16_pictures_are_the_plain_pipelines(open_zimage, plain, tiny, ask, render, plainly, guidance):
    request = ask(guidance=guidance, negative_prompt="blurred")
    zimage = open_zimage(ModelRef(source=str(tiny), path=tiny, dtype="bfloat16"))
    pipe = plain(tiny, "bfloat16")

    assert render(zimage, request).content == plainly(pipe, request)
    as_image = replace(request, image=as_file(a_picture(64, 64)))
    assert render(zimage, as_image).content == plainly(pipe, as_image, image=a_picture(64, 64))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"strength": 1.0},
        {"strength": 0.05},
        {"strength": 0.99, "steps": 3},
        {"width": 96, "height": 48},
        {"guidance": 2.0, "negative_prompt": "blurred"},
    ],
    ids=str,
)
def test_a_picture_from_a_picture_is_the_plain_pipelines(zimage, plain_tiny, ask, render, plainly, fields):
    request = ask(**fields)
    picture = a_picture(request.width, request.height)
    request = replace(request, image=as_file(picture))

    assert render(zimage, request).content == plainly(plain_tiny, request, image=picture)


def test_an_input_picture_of_another_size_is_resized_as_diffusers_resizes(
    zimage, plain_tiny, ask, render, plainly
):
    from diffusers.image_processor import VaeImageProcessor

    picture = a_picture(100, 70)
    request = ask(image=as_file(picture))
    resized = VaeImageProcessor().resize(picture, 64, 64)

    assert render(zimage, request).content == plainly(plain_tiny, request, image=resized)


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("L", "JPEG"), ("P", "PNG"), ("RGB", "WEBP")])
def test_input_pictures_of_every_common_kind_are_read(zimage, ask, render, mode, kind):
    request = ask(image=as_file(a_picture(64, 64, mode), kind), steps=2)

    assert render(zimage, request).content != render(zimage, ask(steps=2)).content


def test_an_input_picture_is_turned_upright(zimage, ask, render):
    from PIL import Image

    picture = a_picture(64, 64)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    out = io.BytesIO()
    picture.rotate(180).save(out, "PNG", exif=exif)

    turned = render(zimage, ask(image=InputImage.of(out.getvalue()))).content

    assert turned == render(zimage, ask(image=as_file(picture))).content


def test_the_door_knows_what_the_scheduler_takes():
    from diffusers import FlowMatchEulerDiscreteScheduler

    taken = set(inspect.signature(FlowMatchEulerDiscreteScheduler.__init__).parameters)
    assert taken - {"self", "stochastic_sampling"} == SCHEDULER_OPTIONS


@pytest.mark.parametrize(
    "config",
    [
        {"shift": 1.0},
        {"use_dynamic_shifting": True},
        {"use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
    ],
    ids=str,
)
def test_a_scheduler_config_is_laid_over_the_models_own(zimage, plain_tiny, ask, render, plainly, config):
    import diffusers

    if "use_exponential_sigmas" in config and diffusers.__version__ < "0.39":
        pytest.skip("this diffusers asks for the logarithm of its last noise level, nought")
    request = ask(scheduler=SchedulerRef(config=config))
    components = plain_tiny.components
    scheduler = components["scheduler"]
    components["scheduler"] = type(scheduler).from_config(scheduler.config, **config)
    pipe = type(plain_tiny)(**components)
    pipe.set_progress_bar_config(disable=True)

    ours = render(zimage, request).content

    assert ours == plainly(pipe, request)
    assert ours != render(zimage, ask()).content


def test_a_picture_does_not_depend_on_those_before_it(zimage, ask, render):
    requests = [
        ask(),
        ask(seed=1, width=128, guidance=2.0, scheduler=SchedulerRef(config={"shift": 1.0})),
        ask(image=as_file(a_picture(64, 64)), steps=4),
        ask(prompt="another", max_sequence_length=64),
    ]

    first = [render(zimage, request).content for request in requests]
    again = [render(zimage, request).content for request in reversed(requests)]

    assert first == again[::-1]


def test_a_change_of_the_process_wide_random_state_changes_nothing(zimage, ask, render):
    import torch

    before = render(zimage, ask(image=as_file(a_picture(64, 64)))).content
    state = torch.random.get_rng_state()
    torch.manual_seed(99)

    after = render(zimage, ask(image=as_file(a_picture(64, 64)))).content

    assert after == before
    torch.random.set_rng_state(state)


def test_a_host_in_inference_mode_or_autocast_gets_the_same_picture(open_zimage, tiny, ask, render):
    import torch

    expected = render(open_zimage(tiny), ask()).content
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        pipeline = open_zimage(tiny)
        inside = render(pipeline, ask()).content
    outside = render(pipeline, ask()).content

    assert inside == outside == expected


def test_a_request_is_left_as_it_was(zimage, ask, render):
    request = ask(guidance=2.0, sigmas=(1.0, 0.5), steps=2, negative_prompt="b")
    before = copy.deepcopy(request)

    render(zimage, request)

    assert request == before


def test_previews_are_small_pictures_and_change_nothing(zimage, ask, render):
    from zit_ext.codecs import decode_png

    watcher = QuietWatcher()

    shown = render(zimage, ask(width=128), watcher).content

    sizes = {(picture.width, picture.height) for picture in map(decode_png, watcher.previews)}
    assert sizes == {(16, 8)}
    assert len(watcher.previews) == 3
    assert shown == render(zimage, ask(width=128)).content
