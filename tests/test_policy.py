"""What is let through the door, and what is told to whoever is not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zit_ext import CacheMode, FileRef, InputImage, LoraRef, ModelRef, SchedulerRef
from zit_ext.default_plugins.dynamic_prompts import dynamic_part
from zit_ext.errors import RequestError
from zit_ext.policy import at_the_door, batch_of, normalised, own_bypass
from zit_ext.settings import Settings
from zit_ext.testing import make_request

NESTED: list[object] = []
for _ in range(5000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("field", "value", "remedy"),
    [
        ("width", 1000, "multiple of 16; 1008 is the nearest"),
        ("width", 0, "from 16 to 8192"),
        ("height", 8208, "from 16 to 8192"),
        ("height", "1024", "whole number"),
        ("width", 512.5, "whole number"),
        ("steps", 0, "from 1 to 1000"),
        ("steps", None, "whole number"),
        ("guidance", math.nan, "finite"),
        ("guidance", math.inf, "finite"),
        ("guidance", "high", "finite"),
        ("seed", 2**64, "whole number from"),
        ("seed", -(2**63) - 1, "whole number from"),
        ("prompt", b"bytes", "give a text"),
        ("prompt", None, "give a text"),
        ("prompt", "half \ud800", "half character at position 5"),
        ("prompt", "x" * 100_001, "at most 100,000 characters"),
        ("negative_prompt", 3, "give a text"),
        ("strength", 0, "above 0 up to 1"),
        ("strength", 1.5, "above 0 up to 1"),
        (
            "scheduler",
            SchedulerRef(name="DPMSolverMultistepScheduler"),
            "FlowMatchEulerDiscreteScheduler only",
        ),
        ("scheduler", SchedulerRef(config={"stochastic_sampling": True}), "shared random state"),
        ("scheduler", SchedulerRef(config=None), "mapping of names"),
        ("scheduler", SchedulerRef(config=[]), "mapping of names"),
        ("scheduler", SchedulerRef(config={"shift": math.nan}), "shift"),
        ("scheduler", SchedulerRef(config={"shfit": 3.0}), "scheduler.config.shfit"),
        ("sigmas", (), "falling numbers"),
        ("sigmas", (0.5, 1.0), "fall from step to step"),
        ("max_sequence_length", 0, "from 1"),
        ("generator_device", "tpu", "one of cpu"),
        ("model", ModelRef(source=" "), "Hugging Face id"),
        ("model", "a path", "Hugging Face id"),
        ("model", ModelRef(source="x", dtype="int4"), "one of auto"),
        ("model", ModelRef(source="x", offload="all"), "one of none"),
        ("model", ModelRef(source="x", vae=FileRef(source="")), "name a file"),
        ("loras", ("a path",), "LoraRef"),
        ("loras", "a path", "a list of LoraRef"),
        ("loras", None, "a list of LoraRef"),
        ("image", "a path", "InputImage.of"),
        ("image", InputImage.of(b"GIF89a"), "PNG, JPEG or WebP"),
        ("comment", 5, "give a text"),
        ("loras", (LoraRef(source="oil", strength=math.nan),), "finite"),
        ("namespace", "", "1 to 128"),
        ("namespace", "a\nb", "printable"),
        ("extra", {"host.x": object()}, "host.x"),
        pytest.param("extra", {"host.x": 10**5000}, "too many digits", id="extra-huge"),
        pytest.param("prompt", 10**5000, "give a text", id="huge"),
        pytest.param("cache", NESTED, "one of use, refresh, bypass, only", id="nested"),
        ("cache", "maybe", "one of use, refresh, bypass, only"),
        ("ttl_seconds", -1, "from 0"),
        ("keep_alive", -2, "from -1"),
    ],
)
def test_bad_input_names_the_field_the_value_and_the_remedy(field, value, remedy):
    with pytest.raises(RequestError, match=f"(?s){remedy}") as raised:
        at_the_door(make_request(**{field: value}))
    assert raised.value.field.split(".")[0].split("[")[0] == field


@pytest.mark.parametrize("seed", [-(2**63), -1, 0, 2**64 - 1])
def test_every_seed_of_torch_is_let_through(seed):
    assert at_the_door(make_request(seed=seed)).seed == seed


def test_numbers_get_the_one_type_of_their_field():
    asked = at_the_door(make_request(steps=8.0, guidance=True, width=512.0, cache="refresh"))
    assert [type(each) for each in (asked.steps, asked.guidance, asked.width)] == [int, float, int]
    assert asked.cache is CacheMode.REFRESH


def test_another_medium_has_no_sides_and_no_picture_scheduler():
    asked = at_the_door(make_request(media_type="audio/wav", width=0, scheduler=SchedulerRef(name="other")))
    assert asked.width == 0


@pytest.mark.parametrize("width", ["wide", 1.5, object(), -1])
def test_another_medium_has_whole_numbers_all_the_same(width):
    with pytest.raises(RequestError, match="width"):
        at_the_door(make_request(media_type="video/webm", width=width))


def test_a_media_type_has_one_spelling():
    assert at_the_door(make_request(media_type="Image/PNG", width=512)) == at_the_door(
        make_request(width=512)
    )
    for wrong in ("png", "image/", "audio/wav; rate=8000", None, 1):
        with pytest.raises(RequestError, match="without parameters"):
            at_the_door(make_request(media_type=wrong))


def test_what_a_caller_keeps_in_hand_is_copied_at_the_door():
    theirs = {"host.levels": [1.0, (2, {"a": -0.0})]}
    asked = at_the_door(make_request(extra=theirs, scheduler=SchedulerRef(config={"shift": [3.0]})))
    theirs["host.levels"][1][1]["a"] = 7
    assert repr(asked.extra) == "{'host.levels': [1, [2, {'a': 0}]]}"
    assert repr(asked.scheduler.config) == "{'shift': [3]}"


@given(st.floats(max_value=0, allow_nan=False, allow_infinity=False))
def test_without_guidance_the_negative_prompt_has_no_effect(guidance):
    assert normalised(make_request(guidance=guidance, negative_prompt="ugly")).negative_prompt == ""


def test_with_the_least_guidance_the_negative_prompt_counts():
    assert normalised(make_request(guidance=1e-9, negative_prompt="ugly")).negative_prompt == "ugly"


@given(st.integers(-5, 5))
def test_the_door_lets_through_what_it_let_through_before(seed):
    once = at_the_door(make_request(seed=seed, guidance=-0.0, loras=(LoraRef(source="a", strength=0),)))
    assert at_the_door(once) == once


def test_a_batch_counts_up_its_seeds():
    assert [request.seed for request in batch_of(make_request(seed=5), 3)] == [5, 6, 7]
    assert [request.seed for request in batch_of(make_request(seed=-1), 2)] == [-1, -1]


@pytest.mark.parametrize(("seed", "count"), [(-2, 2), (2**64 - 1, 2), (5, 0)])
def test_a_batch_that_would_meet_a_special_seed_is_refused(seed, count):
    with pytest.raises(RequestError):
        batch_of(make_request(seed=seed), count)


@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("a __color__ car", "__color__"),
        ("__artists/*__", "__artists/*__"),
        ("a __deep/folder name__ car", "__deep/folder name__"),
        ("a {red|blue} car", "{red|blue}"),
        ("a {3::red|1::blue} car", "{3::red|1::blue}"),
        ("{2$$a|b|c}", "{2$$a|b|c}"),
        ("a {big {red|blue}} car", "{red|blue}"),
        ("${style:oil} car", "${style:oil}"),
        ("painted at {time}", "{time}"),
        ("on %date:yyyy-MM-dd%", "%date:yyyy-MM-dd%"),
        ("for [user]", "[user]"),
        ("{DATE}", "{DATE}"),
        (r"\\{a|b}", "{a|b}"),
    ],
)
def test_dynamic_prompts_are_seen(prompt, part):
    assert dynamic_part(prompt) == part


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "a red car",
        "snake_case and __dunder",
        "def __init(self)",
        r"a \{red|blue\} car",
        r"a \__color__ car",
        "a {red} car",
        "a | b",
        "{a} | {b}",
        "(red:1.2) [blue]",
        "100% date",
        "______",
        r"\{time}",
        "}{",
    ],
)
def test_prompts_that_mean_themselves_are_let_alone(prompt):
    assert dynamic_part(prompt) is None


@given(st.text(st.sampled_from("_{}|\\$a: %[]"), max_size=40))
def test_no_prompt_stops_the_search(prompt):
    found = dynamic_part(prompt)
    assert found is None or found in prompt


def test_clients_are_told_which_file_disabled_the_cache_and_not_where_it_lies(tmp_path):
    settings = Settings().with_values({"disable_cache": True}, str(tmp_path / "config.toml"))
    found = own_bypass(make_request(), settings)
    assert found == ("disabled", "the cache is disabled (config.toml)")
