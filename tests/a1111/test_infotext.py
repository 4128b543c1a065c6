"""What a picture of the tab says of itself comes back as it was, through the webui's own parser."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zit_ext.records import InputImage, Request, SchedulerRef

from .reading_infotext import parse

infotext: Any = importlib.import_module("a1111_extension.infotext")

TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=60)


def told(request: Request, *, prompt: str, sigmas: str = "as the model", shift: float = 0.0) -> str:
    text: str = infotext.written(request, prompt=prompt, model="Z-Image-Turbo", sigmas=sigmas, shift=shift)
    return text


@given(
    prompt=TEXT,
    negative=TEXT,
    seed=st.integers(-(2**63), 2**64 - 1),
    guidance=st.floats(0, 20),
    strength=st.floats(0.001, 1),
    shift=st.floats(0, 12),
    sigmas=st.sampled_from(["as the model", "Karras", "exponential"]),
    sides=st.tuples(st.integers(1, 128), st.integers(1, 128)),
)
def test_every_field_comes_back_to_the_digit(
    prompt, negative, seed, guidance, strength, shift, sigmas, sides
):
    request = Request(
        prompt=prompt,
        negative_prompt=negative,
        seed=seed,
        width=16 * sides[0],
        height=16 * sides[1],
        steps=9,
        guidance=guidance,
        strength=strength,
        image=InputImage.of(b"a picture"),
    )

    back = infotext.read(parse(told(request, prompt=prompt, sigmas=sigmas, shift=shift)))

    assert back == {
        "prompt": prompt,
        "negative_prompt": negative,
        "seed": str(seed),
        "width": request.width,
        "height": request.height,
        "steps": 9,
        "guidance": guidance,
        "strength": strength,
        "model": "Z-Image-Turbo",
        "sigmas": sigmas,
        "shift": shift,
    }


def test_the_text_is_the_webuis_and_names_no_checkpoint_to_switch_to():
    request = Request(prompt="a fox", negative_prompt="blurry", seed=7, width=512, height=768, guidance=1.5)

    assert told(request, prompt="a fox <lora:ink:0.5>") == (
        "a fox <lora:ink:0.5>\nNegative prompt: blurry\n"
        "Steps: 8, Sampler: Euler, CFG scale: 2.5, Seed: 7, Size: 512x768, Model: Z-Image-Turbo, "
        "Z-Image guidance: 1.5"
    )


def test_a_picture_of_another_model_gives_prompts_seed_and_a_size_that_can_be():
    theirs = "a castle\nSteps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 5, Size: 500x760, Model: v1-5"

    assert infotext.read(parse(theirs)) == {
        "prompt": "a castle",
        "negative_prompt": "",
        "seed": "5",
        "width": 496,
        "height": 768,
    }


@pytest.mark.parametrize(
    "nonsense", ["", "no parameters here", "Steps: x, Seed: y, Size: z, Z-Image guidance: w"]
)
def test_nonsense_changes_no_field_to_nonsense(nonsense):
    back = infotext.read(parse(nonsense))

    assert not {"seed", "width", "steps", "guidance"} & back.keys()


def test_what_the_scheduler_can_be_asked_for_is_a_config_of_its_own_fields():
    for config in infotext.SIGMAS.values():
        assert SchedulerRef(config=config).config == config


@pytest.mark.parametrize("sigmas", ["", None, "of another version"])
def test_no_choice_of_sigmas_is_as_the_model(sigmas):
    text = told(Request(prompt="a fox", seed=1), prompt="a fox", sigmas=sigmas)

    assert infotext.read(parse(text))["sigmas"] == "as the model"
