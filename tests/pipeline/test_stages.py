"""A render goes in stages, each with only its parts; prompts are encoded once; a stop is clean."""

from __future__ import annotations

import io

import pytest

from zit_ext.errors import GenerationStoppedError, ModelError, RequestError
from zit_ext.models import zimage
from zit_ext.pipeline import WeightTier
from zit_ext.records import InputImage, SchedulerRef
from zit_ext.testing import QuietWatcher

pytestmark = pytest.mark.pipeline


class Stopping(QuietWatcher):
    """Wants to stop after so many steps."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def wants_stop(self) -> bool:
        return len(self.steps) >= self.after


def a_png():
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def fresh(open_zimage, tiny):
    return open_zimage(tiny)


def test_each_stage_leases_its_own_parts(fresh, ask, render, leases):
    render(fresh, ask(), lease=leases)

    assert leases.asked == [("text_encoder",), ("transformer",), ("vae",)]
    assert not leases.held


def test_a_remembered_prompt_needs_no_text_encoder_and_gives_the_same_picture(fresh, ask, render, leases):
    request = ask(guidance=2.0, negative_prompt="blurred")
    first = render(fresh, request).content

    again = render(fresh, request, lease=leases).content

    assert again == first
    assert leases.asked == [("transformer",), ("vae",)]


def test_a_batch_of_one_prompt_is_encoded_once(fresh, ask, render, leases):
    for seed in range(3):
        render(fresh, ask(seed=seed, steps=1), lease=leases)

    assert leases.asked.count(("text_encoder",)) == 1


@pytest.mark.parametrize(
    "fields",
    [{"prompt": "other"}, {"max_sequence_length": 64}, {"guidance": 1.0, "negative_prompt": "new"}],
    ids=str,
)
def test_what_an_embedding_depends_on_is_encoded_anew(fresh, ask, render, leases, fields):
    render(fresh, ask())

    render(fresh, ask(**fields), lease=leases)

    assert ("text_encoder",) in leases.asked


def test_embeddings_made_under_other_flags_are_not_used(fresh, ask, render, leases):
    import torch

    render(fresh, ask())
    torch.set_float32_matmul_precision("high")
    try:
        render(fresh, ask(), lease=leases)
    finally:
        torch.set_float32_matmul_precision("highest")

    assert ("text_encoder",) in leases.asked


def test_only_the_last_prompts_are_remembered(fresh, ask, render, leases):
    render(fresh, ask(steps=1))
    for number in range(8):
        render(fresh, ask(prompt=str(number), steps=1))

    render(fresh, ask(steps=1), lease=leases)

    assert ("text_encoder",) in leases.asked


def test_image_to_image_leases_the_vae_while_it_denoises(fresh, ask, render, leases):
    render(fresh, ask(image=InputImage.of(a_png())), lease=leases)

    assert leases.asked == [("text_encoder",), ("transformer", "vae"), ("vae",)]


def test_every_step_is_told(fresh, ask, render):
    watcher = QuietWatcher()

    render(fresh, ask(steps=5), watcher)

    assert watcher.steps == [(done, 5) for done in range(1, 6)]


def test_image_to_image_tells_the_steps_that_it_makes(fresh, ask, render):
    watcher = QuietWatcher()

    render(fresh, ask(image=InputImage.of(a_png()), strength=0.5, steps=4), watcher)

    assert watcher.steps == [(1, 2), (2, 2)]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_stopped_render_has_no_picture_and_the_next_one_is_the_same(fresh, ask, render, leases, steps):
    expected = render(fresh, ask()).content
    watcher = Stopping(after=steps)

    with pytest.raises(GenerationStoppedError):
        render(fresh, ask(), watcher, leases)

    assert len(watcher.steps) == steps
    assert not leases.held
    assert render(fresh, ask()).content == expected


def test_the_cost_of_a_picture_leaves_out_waiting_for_weights(fresh, ask, render):
    import contextlib
    import time

    @contextlib.contextmanager
    def slow(*parts):
        time.sleep(1.0)
        yield

    assert render(fresh, ask(steps=1), lease=slow).seconds < 1.0


def test_parts_are_measured_and_named_by_what_they_were_loaded_from(fresh, tiny):
    from safetensors.torch import load_file

    sizes = {part.name: part.bytes for part in fresh.parts}

    assert list(sizes) == ["text_encoder", "transformer", "vae"]
    tensors = load_file(tiny / "transformer" / "diffusion_pytorch_model.safetensors")
    assert sizes["transformer"] == sum(tensor.nbytes for tensor in tensors.values())
    assert len({part.identity for part in fresh.parts}) == 3


def test_parts_may_be_moved_to_where_they_are(fresh, ask, render):
    expected = render(fresh, ask()).content

    for part in fresh.parts:
        for tier in (WeightTier.VRAM, WeightTier.VRAM, WeightTier.RAM, WeightTier.RAM):
            fresh.move(part.name, tier)

    assert render(fresh, ask()).content == expected


def test_a_closed_pipeline_says_so(open_zimage, tiny, ask, render):
    pipeline = open_zimage(tiny)
    pipeline.close()
    pipeline.close()

    with pytest.raises(ModelError, match="closed"):
        render(pipeline, ask())


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scheduler": SchedulerRef(name="DPMSolverMultistepScheduler")}, "scheduler"),
        (
            {"scheduler": SchedulerRef(config={"stochastic_sampling": True})},
            "scheduler.config.stochastic_sampling",
        ),
        ({"scheduler": SchedulerRef(config={"shfit": 1.0})}, "scheduler.config.shfit"),
        ({"scheduler": SchedulerRef(config={"time_shift_type": "odd"})}, "scheduler.config"),
        ({"generator_device": "cuda"}, "generator_device"),
        ({"image": InputImage.of(b"GIF89a not a picture")}, "image"),
        ({"image": InputImage.of(b"\x89PNG\r\n\x1a\n cut short")}, "image"),
        ({"media_type": "image/webp"}, "media_type"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_is_refused_before_weights_move(fresh, ask, render, leases, fields, field):
    with pytest.raises(RequestError) as caught:
        render(fresh, ask(**fields), lease=leases)

    assert caught.value.field == field
    assert not leases.asked


def test_a_picture_during_which_torch_was_set_otherwise_is_of_no_environment(fresh, ask, render):
    import torch

    class Meddler(QuietWatcher):
        def step(self, done, total):
            torch.set_num_threads(threads + done)

    threads = torch.get_num_threads()
    try:
        meddled = render(fresh, ask(), watcher=Meddler())
    finally:
        torch.set_num_threads(threads)

    assert (meddled.faithful, meddled.warnings) == (False, (zimage.TURNED,))
    assert render(fresh, ask()).faithful


def test_a_refused_scheduler_is_told_which_are_allowed(fresh, ask, render):
    with pytest.raises(RequestError, match="FlowMatchEulerDiscreteScheduler"):
        render(fresh, ask(scheduler=SchedulerRef(name="HeunDiscreteScheduler")))


def test_a_picture_of_no_numbers_is_an_error_and_not_a_black_picture(open_zimage, tmp_path, ask, render):
    import torch
    from diffusers import ZImagePipeline

    from zit_ext.models.tiny import components

    parts = components()
    with torch.no_grad():
        next(parts["transformer"].layers.parameters()).fill_(float("nan"))
    ZImagePipeline(**parts).save_pretrained(str(tmp_path / "broken"))

    with pytest.raises(ModelError, match="NaN"):
        render(open_zimage(tmp_path / "broken"), ask())
