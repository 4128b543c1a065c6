"""The law of the key: equal keys exactly for equal normalised requests."""

import math
import struct
from dataclasses import fields, replace
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zit_ext import CacheMode, FileRef, InputImage, LoraRef, ModelRef, Request, SchedulerRef
from zit_ext.errors import FieldClashError, PluginError
from zit_ext.fingerprint import canonical_bytes, differing_fields, fingerprint, merge_fields, read_canonical
from zit_ext.plugins import Hooks, find_plugins
from zit_ext.policy import at_the_door
from zit_ext.testing import make_request

HOOKS = Hooks(find_plugins(entry_points=False))
GUIDED = make_request(guidance=2.0, image=InputImage.of(b"\x89PNG\r\n\x1a\n one"))
CHANGES = {
    "prompt": "a lighthouse at dawn",
    "seed": 8,
    "model": ModelRef(source="zit", digest="other"),
    "negative_prompt": "ugly",
    "width": 512,
    "height": 512,
    "steps": 9,
    "guidance": 1.5,
    "cfg_normalization": 0.5,
    "cfg_truncation": 0.5,
    "sigmas": (1.0, 0.5),
    "max_sequence_length": 256,
    "generator_device": "cuda",
    "scheduler": SchedulerRef(config={"shift": 6.0}),
    "loras": (LoraRef(source="oil", digest="oil"),),
    "image": InputImage.of(b"\x89PNG\r\n\x1a\n another"),
    "strength": 0.9,
    "media_type": "audio/wav",
    "namespace": "somebody",
    "extra": {"comfy.clip_skip": 2},
    "cache": CacheMode.REFRESH,
    "debug": True,
    "ttl_seconds": 5.0,
    "keep_alive": 5.0,
    "priority": 3,
    "comment": "for people",
    "context": "of the engine",
}
MODEL_CHANGES = {
    "source": "elsewhere",
    "digest": "other",
    "path": None,
    "identity": "elsewhere",
    "believed": True,
    "dtype": "float32",
    "text_encoder": FileRef(source="te", digest="te"),
    "vae": FileRef(source="vae", digest="vae"),
    "tokenizer": FileRef(source="tokenizer", digest="tokenizer"),
    "attention": "flash",
    "vae_tiling": True,
    "offload": "group",
}


def key_of(request: Request) -> str:
    return fingerprint(HOOKS.fingerprint_fields(at_the_door(request))).key


@pytest.mark.parametrize("field", fields(Request), ids=lambda field: field.name)
def test_a_field_counts_unless_it_is_not_compared(field):
    changed = replace(GUIDED, **{field.name: CHANGES[field.name]})
    assert (key_of(changed) != key_of(GUIDED)) is field.compare


@pytest.mark.parametrize("field", fields(ModelRef), ids=lambda field: field.name)
def test_a_field_of_the_model_counts_unless_it_is_not_compared(field):
    changed = replace(GUIDED, model=replace(GUIDED.model, **{field.name: MODEL_CHANGES[field.name]}))
    assert (key_of(changed) != key_of(GUIDED)) is field.compare


@pytest.mark.parametrize(
    "change",
    [
        {"negative_prompt": "ugly"},
        {"cfg_normalization": 0.5},
        {"cfg_truncation": 0.5},
        {"strength": 0.9},
        {"loras": (LoraRef(source="oil", digest="oil", strength=0.0),)},
        {"guidance": -0.0},
        {"guidance": 0},
        {"width": 1024.0},
        {"steps": 8.0},
        {"scheduler": SchedulerRef(name="euler")},
        {"comment": "x"},
    ],
    ids=str,
)
def test_what_has_no_effect_is_not_in_the_key(change):
    assert key_of(make_request(**change)) == key_of(make_request())


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-100, 100)
loras = st.builds(LoraRef, source=st.sampled_from("xy"), digest=st.sampled_from("ab"), strength=numbers)
requests = st.builds(
    make_request,
    seed=st.integers(0, 3),
    guidance=numbers,
    negative_prompt=st.sampled_from(["", "ugly"]),
    prompt=st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    steps=st.sampled_from([8, 8.0, 9]),
    loras=st.lists(loras, max_size=2).map(tuple),
    comment=st.text(max_size=2),
)


@given(requests, requests)
def test_equal_requests_are_those_with_equal_keys(one, other):
    assert (at_the_door(one) == at_the_door(other)) is (key_of(one) == key_of(other))


def test_the_key_of_a_known_request_never_changes():
    """If this fails, every user's cache goes cold. If that is meant, raise fingerprint.SCHEMA."""
    known = make_request(model=ModelRef(source="zit", digest="0" * 64))
    assert key_of(known) == "93e96665bf3b3249035d6ad3b9a6c52c827e4035c52f07e2889d13b70555811c"


def test_a_miss_can_be_explained():
    one, other = (HOOKS.fingerprint_fields(make_request(**each)) for each in ({}, {"steps": 9, "seed": 8}))
    assert differing_fields(one, other) == {"seed": (7, 8), "steps": (8, 9)}


def test_the_explanation_names_the_nested_field():
    one, other = (
        HOOKS.fingerprint_fields(make_request(model=ModelRef(source="zit", dtype=dtype)))
        for dtype in ("auto", "float32")
    )
    assert differing_fields(one, other) == {"model.dtype": ("auto", "float32")}


def test_plugins_may_agree_but_not_disagree():
    assert merge_fields([("one", {"a": 1}), ("two", {"a": 1.0, "b": 2})]) == {"a": 1, "b": 2}
    with pytest.raises(FieldClashError, match=r"'one'.*'two'.*'a'"):
        merge_fields([("one", {"a": 1}), ("two", {"a": 2})])


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"x.a": object()}, "x.a"),
        ({"x.a": float("nan")}, "x.a"),
        ({"x.a": [1, {"b": {1, 2}}]}, "x.a.1.b"),
        ({"x.a": {1: 2}}, "x.a"),
        ({"x.a": "\ud800"}, "x.a"),
    ],
)
def test_a_field_without_one_spelling_is_refused_with_its_path(value, path):
    with pytest.raises(PluginError, match=f"field {path} "):
        fingerprint(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc.", max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain)
def test_canonical_bytes_are_read_back(value):
    assert read_canonical(canonical_bytes(value)) == value


@given(plain, plain)
def test_different_values_have_different_spellings(one, other):
    same = _typed(one) == _typed(other)
    assert (canonical_bytes(one) == canonical_bytes(other)) is same


def _typed(value):
    """Equality as the key means it: true is not 1, but 8 is 8.0."""
    if isinstance(value, bool) or value is None:
        return ("constant", value)
    if isinstance(value, float) and value.is_integer():
        return ("number", int(value))
    if isinstance(value, int):
        return ("number", value)
    if isinstance(value, float):
        return ("float", struct.pack(">d", value))
    if isinstance(value, list):
        return ("list", [_typed(each) for each in value])
    if isinstance(value, dict):
        return ("dict", {name: _typed(each) for name, each in value.items()})
    return (type(value).__name__, value)


@given(st.binary(max_size=40))
def test_rubbish_is_not_read_as_canonical(data):
    try:
        value = read_canonical(data)
    except ValueError:
        return
    assert isinstance(value, (type(None), bool, int, float, str, bytes, list, dict))


def test_an_enum_is_spelled_as_its_value():
    class Colour(str, Enum):
        RED = "red"

    assert canonical_bytes(Colour.RED) == canonical_bytes("red")


def test_a_float_is_spelled_to_the_last_bit():
    assert canonical_bytes(0.1) != canonical_bytes(math.nextafter(0.1, 1))
